"""What a population changes in a run between two of its starts, and that nobody else may."""

from __future__ import annotations

import json

import pytest

from impala_tf import config as config_lib
from impala_tf.errors import UserError
from impala_tf.files import write_json
from impala_tf.records import tuning
from impala_tf.records.logdir import LogDir


def run(folder, frames, **values):
    """A run with a checkpoint, which has begun with these settings."""
    config = config_lib.from_values({"logdir": str(folder), "env": "catch", **values})
    logdir = LogDir(str(folder))
    logdir.check(config)
    with logdir.lock():
        logdir.prepare(config)
    checkpoint = logdir.checkpoints / f"{frames:012}"
    checkpoint.mkdir(parents=True)
    write_json(checkpoint / "state.json", {"frames": frames})
    (checkpoint / "variables.data").write_text(f"weights at {frames}")
    return logdir, config


def test_three_settings_are_tunable_and_fixed_all_the_same():
    assert set(config_lib.TUNABLE) == {"learning_rate", "rmsprop_epsilon", "entropy_cost"}
    assert set(config_lib.TUNABLE) < config_lib.FIXED
    _, config = None, config_lib.Config()
    assert tuning.with_values(config, {"learning_rate": 0.5}).optimizer.learning_rate == 0.5
    with pytest.raises(ValueError, match="not tunable: discount"):
        tuning.with_values(config, {"discount": 0.5})


def test_a_tuned_run_resumes_with_its_new_values_only_and_keeps_its_history(tmp_path):
    logdir, config = run(tmp_path / "run", 100, learning_rate=0.001)
    faster = tuning.with_values(config, {"learning_rate": 0.002})
    with pytest.raises(UserError, match=r"--learning_rate: 0.001 there, 0.002 now"):
        logdir.check(faster)
    tuning.tune(logdir, faster)
    logdir.check(faster)
    with pytest.raises(UserError, match=r"--learning_rate: 0.002 there, 0.001 now"):
        logdir.check(config)

    with logdir.lock():
        logdir.prepare(faster)  # The next start.
    assert logdir.read_config() == faster and logdir.read_settings()["learning_rate"] == 0.002
    tuning.tune(logdir, tuning.with_values(faster, {"entropy_cost": 0.5}))
    values = {"learning_rate": 0.002, "rmsprop_epsilon": 0.01}
    assert logdir.read_tuned() == [
        {"frames": 100, **values, "entropy_cost": 0.01},
        {"frames": 100, **values, "entropy_cost": 0.5},
    ]


def test_other_runs_have_no_history(tmp_path):
    logdir, _ = run(tmp_path / "run", 100)
    assert logdir.read_tuned() == [] and "tuned" not in json.loads(logdir.config.read_text())


def test_a_run_that_trains_is_left_alone(tmp_path):
    logdir, config = run(tmp_path / "run", 100)
    tuning.keep(logdir, tmp_path / "kept")
    with logdir.lock(), pytest.raises(UserError, match="Another run is using"):
        tuning.tune(LogDir(str(logdir.path)), config)
    with logdir.lock(), pytest.raises(UserError, match="Another run is using"):
        tuning.adopt(LogDir(str(logdir.path)), config, tmp_path / "kept", "itself")
    assert logdir.frames == 100


def test_what_is_kept_outlives_the_runs_own_checkpoint(tmp_path):
    logdir, config = run(tmp_path / "one", 100)
    tuning.keep(logdir, tmp_path / "kept")
    for file in (logdir.checkpoints / f"{100:012}").iterdir():
        file.unlink()
    other, its = run(tmp_path / "two", 900, seed=2)
    (other.path / "progress.csv").write_text("frames\n900\n")
    for _ in range(2):  # Again, as after a kill.
        tuning.adopt(other, its, tmp_path / "kept", "one")
        assert other.frames == 100
        assert (other.checkpoints / f"{100:012}" / "variables.data").read_text() == "weights at 100"
        assert [change["from"] for change in other.read_tuned()] == ["one"]
        other.check(its)
    assert (other.path / "earlier-1" / "progress.csv").exists() and not (other.path / "earlier-2").exists()
    del config

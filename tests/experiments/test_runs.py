"""The flags with which an experiment starts its runs, and what they share."""

from __future__ import annotations

import pytest
from absl import flags as absl_flags

from impala_tf import config as config_lib
from impala_tf import flags as impala_flags
from impala_tf.config import Config
from impala_tf.errors import UserError
from impala_tf.experiments import runs
from impala_tf.machine import cores


def test_flags_give_the_settings_again():
    config = config_lib.from_values(
        {
            **{"env": "memory", "learning_rate": 1e-7 / 3, "fire_on_reset": True, "life_loss_ends_episode": False},
            **{"annealing_frames": 10**18, "logdir": "/a b/c", "core": "lstm"},
        }
    )
    if "total_frames" not in absl_flags.FLAGS:
        impala_flags.define()
    try:
        absl_flags.FLAGS(["impala-train", *runs.flags(config)])
        assert impala_flags.to_config() == config
    finally:
        absl_flags.FLAGS.unparse_flags()


def test_the_environment_is_always_named():
    assert runs.flags(Config()) == ["--env=atari/pong"]


def test_runs_share_the_cores_unless_told_otherwise():
    shared = runs.shared(Config(), cores()).launch
    assert (shared.num_actors, shared.learner_threads) == (1, 1)
    given = config_lib.from_values({"num_actors": 3, "learner_threads": 2})
    assert runs.shared(given, 1) == given
    together = config_lib.from_values({"policy_lag": 0})
    assert runs.shared(together, 1).launch.num_actors == -1


@pytest.mark.parametrize(
    ("values", "flag"), [({"logdir": "x"}, "--logdir"), ({"role": "learner"}, "--role"), ({"port": 8000}, "--port")]
)
def test_what_belongs_to_a_single_run_is_refused(values, flag):
    with pytest.raises(UserError, match=flag):
        runs.check_alone(config_lib.from_values(values), "impala-pbt")


def test_a_folder_is_locked_against_a_second_command(tmp_path):
    folder = tmp_path / "new" / "sweep"
    file = runs.lock(folder)
    with pytest.raises(UserError, match=r"--output=.*/sweep is in use"):
        runs.lock(folder)
    file.close()
    runs.lock(folder).close()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written: Not a directory"):
        runs.lock(tmp_path / "file" / "sweep")

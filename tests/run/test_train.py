"""Complete runs, started by the command: what they write, how they are resumed, how they end."""

from __future__ import annotations

import signal

import numpy as np
import pandas as pd
import pytest
from absl import flags as absl_flags
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from impala_tf import config as config_lib
from impala_tf import flags as impala_flags
from impala_tf.records.logdir import LogDir
from run import train

BATCH = 8 * 10  # --batch_size times --unroll_length; a step of Catch is one frame.
ANNEALING = 40_000
LEARNING_RATE = 0.001
SETTINGS = (
    "--env=catch",
    "--batch_size=8",
    "--unroll_length=10",
    "--envs_per_actor=8",
    f"--learning_rate={LEARNING_RATE}",
    f"--annealing_frames={ANNEALING}",
    "--checkpoint_interval=0.3",
    "--log_interval=0.1",
)
COLUMNS = {
    *("time", "seconds", "frames", "episodes", "mean_return_100", "mean_length_100", "fps_10s", "fps_run"),
    *("learner_steps_per_second", "policy_lag_mean", "policy_lag_max", "learner_waiting", "refused_updates"),
    *("total_loss", "policy_loss", "baseline_loss", "entropy", "gradient_norm", "learning_rate"),
}


def one_process(start, logdir, total_frames):
    started = start(*SETTINGS, "--num_actors=0", f"--logdir={logdir}", f"--total_frames={total_frames}")
    assert started.finish(150) == 0, started.describe()
    assert started.err == "", started.describe()
    return started


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    """The folder of the run that the slow tests share and continue, in their order."""
    return tmp_path_factory.mktemp("runs") / "catch"


@pytest.fixture(scope="module")
def first(start_shared, logdir):
    """The first start of the run."""
    return one_process(start_shared, logdir, 4000)


@pytest.fixture(scope="module")
def second(first, start_shared, logdir):
    """The second start, with more frames."""
    return one_process(start_shared, logdir, 8000)


@pytest.mark.slow(5)
def test_what_a_run_writes(first, logdir, frames_saved):
    rows = pd.read_csv(logdir / "progress.csv")
    assert set(rows.columns) >= COLUMNS
    assert rows["frames"].iloc[-1] == 4000 == frames_saved(logdir)[-1]
    assert rows["episodes"].iloc[-1] == pytest.approx(4000 / 9, abs=8)  # 8 environments, episodes of 9 steps
    assert rows["mean_length_100"].iloc[-1] == 9
    assert rows["mean_return_100"].between(-1, 1).all()
    assert np.isfinite(rows[["total_loss", "entropy", "gradient_norm", "fps_run"]]).all(axis=None)
    assert (rows["refused_updates"] == 0).all()
    assert (logdir / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    card = (logdir / "model_card.md").read_text()
    assert "| environment frames | 4,000 |" in card and f"| learner steps | {4000 // BATCH} |" in card
    assert str(logdir / "model_card.md") in first.out
    assert (logdir / "config.json").exists()
    assert 1 <= len(frames_saved(logdir)) <= 3
    events = EventAccumulator(str(logdir / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    loss = events.Tensors("loss/total_loss")
    assert [event.step for event in loss] == list(rows["frames"])
    np.testing.assert_allclose([make_ndarray(event.tensor_proto) for event in loss], rows["total_loss"], rtol=1e-5)


@pytest.mark.slow(5)
def test_a_run_is_resumed(second, logdir, resumed_at, frames_saved):
    assert resumed_at(second) == (4000, 4000 // BATCH)
    rows = pd.read_csv(logdir / "progress.csv")
    assert 4000 in set(rows["frames"]) and rows["frames"].iloc[-1] == 8000 == frames_saved(logdir)[-1]
    for column in ("frames", "episodes", "seconds", "time"):
        assert (rows[column].diff().iloc[1:] > 0).all(), rows[column]
    assert rows["episodes"].iloc[-1] == pytest.approx(8000 / 9, abs=16)  # Each start leaves unfinished episodes.


@pytest.mark.slow(5)
def test_the_learning_rate_follows_the_frames_of_all_starts(second, logdir):
    rows = pd.read_csv(logdir / "progress.csv")
    first_step = rows["frames"].shift(fill_value=0)  # A row's value is the mean over its learner steps.
    last_step = rows["frames"] - BATCH
    expected = LEARNING_RATE * (1 - (first_step + last_step) / 2 / ANNEALING)
    np.testing.assert_allclose(rows["learning_rate"], expected, rtol=1e-4)


@pytest.mark.slow(5)
def test_a_finished_run_is_left_alone(second, start, logdir, frames_saved):
    def contents():
        rewritten = (".lock", "learning_curve.png", "model_card.md")
        files = (path for path in logdir.rglob("*") if path.is_file() and path.name not in rewritten)
        return {path: path.stat().st_mtime_ns for path in files}

    before = contents()
    again = start("--num_actors=1", f"--logdir={logdir}")  # The other settings are the run's.
    assert again.finish(15) == 0, again.describe()
    assert "is finished already: 8,000 of 8,000 frames" in again.out
    assert contents() == before


@pytest.mark.slow(5)
def test_damaged_checkpoints(second, start, start_shared, logdir, frames_saved, error_of, resumed_at):
    *_, before, newest = frames_saved(logdir)
    for file in (logdir / "checkpoints" / f"{newest:012d}").glob("*.data-*"):
        file.write_bytes(b"\0" * file.stat().st_size)
    third = one_process(start_shared, logdir, 10_000)
    assert f"{newest:012d} is damaged" in third.out
    assert resumed_at(third) == (before, before // BATCH)
    rows = pd.read_csv(logdir / "progress.csv")
    assert (rows["frames"].diff().iloc[1:] > 0).all() and rows["frames"].iloc[-1] == 10_000
    assert (logdir / "checkpoints" / f"damaged-{newest:012d}").is_dir()  # It no longer counts as the newest.

    for index in logdir.glob("checkpoints/[0-9]*/*.index"):
        index.write_bytes(b"")
    left = frames_saved(logdir)
    fourth = start(*SETTINGS, "--num_actors=0", f"--logdir={logdir}", "--total_frames=12000")
    error = error_of(fourth, 60)
    assert f"None of the {len(left)} checkpoints" in error and str(logdir / "checkpoints") in error
    assert frames_saved(logdir) == left  # Another start must not begin from scratch.


def test_without_an_environment_the_settings_are_those_of_the_folder(tmp_path, caplog):
    """Flags that are given count, wherever they come from; per-process settings are not the run's."""
    logdir = LogDir(str(tmp_path / "run"))

    def config(*arguments):
        if "env" not in absl_flags.FLAGS:
            impala_flags.define()
        absl_flags.FLAGS.unparse_flags()
        for name in absl_flags.FLAGS:
            absl_flags.FLAGS[name].unparse()
        absl_flags.FLAGS(["impala-train", *arguments])
        return train._config()

    alone = f"--logdir={logdir.path}"
    caplog.set_level("INFO")
    assert config(alone) == config_lib.from_values({"logdir": str(logdir.path)})
    assert "holds no run yet: a new one of atari/pong" in caplog.text  # The folder's name may be mistyped.
    values = {"env": "catch", "learning_rate": 0.5, "num_actors": 3, "c_bar": 0.2, "role": "learner", "port": 4000}
    logdir.check(config(alone))
    logdir.prepare(config_lib.from_values({**values, "logdir": str(logdir.path)}))
    expected = {"env": "catch", "learning_rate": 0.5, "num_actors": 3, "c_bar": 0.2, "logdir": str(logdir.path)}
    assert config(alone) == config_lib.from_values(expected)
    given = config(alone, "--learning_rate=0.0006", "--total_frames=7")  # Its default, but given.
    assert given == config_lib.from_values({**expected, "learning_rate": 0.0006, "total_frames": 7})
    assert config(alone, "--rho_bar=0.5").loss.rho_bar == 0.5  # Below c_bar's default, not below the folder's.
    assert config(alone, "--env=catch").optimizer.learning_rate == 0.0006
    assert config(alone, "--role=actor", "--address=x:1").environment.env == "atari/pong"


def test_interrupts(start, tmp_path, frames_saved, resumed_at, error_of):
    """Interrupts a run with Ctrl-C, resumes it with the same command, and ends it with SIGTERM."""
    flags = (
        *SETTINGS,
        "--num_actors=1",
        f"--logdir={tmp_path}",
        "--checkpoint_interval=60",
    )
    saved = 0
    for number in (signal.SIGINT, signal.SIGTERM):
        started = start(*flags)
        started.wait_until(lambda started=started: " frames/s " in started.out, timeout=90)
        if number == signal.SIGINT:
            assert "Another run" in error_of(start(*flags), 10)
        else:
            assert resumed_at(started) == (saved, saved // BATCH)
        assert len(started.children("learner") + started.children("actor 0")) == 2, started.describe()
        assert frames_saved(tmp_path) == [saved] * bool(saved)
        started.process.send_signal(number)
        assert started.finish(10) == 128 + number, started.describe()
        started.wait_until_gone()
        assert frames_saved(tmp_path)[-1] > saved
        saved = frames_saved(tmp_path)[-1]
        assert f"{number.name}; the last checkpoint is at {saved:,} frames" in started.out, started.describe()
        assert pd.read_csv(tmp_path / "progress.csv")["frames"].iloc[-1] == saved
        assert started.err == "", started.describe()

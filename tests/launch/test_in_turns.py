"""A whole run in one process and thread."""

from __future__ import annotations

import pathlib
import sys

import pandas as pd
import pytest

sys.path.append(str(pathlib.Path(__file__).parent))  # Children get it from here, too.

import real_runs

from impala_tf.errors import UserError
from impala_tf.launch import local  # noqa: F401 - has the fork server import TensorFlow, once for all.
from impala_tf.processes.child import FORK_SERVER, Child, ChildFailed


def _run(logdir, stopped=False, log=None, **values):
    child = Child(
        "in turns", real_runs.in_turns, logdir, stopped, {"num_actors": 0, **values}, context=FORK_SERVER, log=log
    )
    try:
        return child.answer(120)
    finally:
        child.end()


@pytest.mark.slow(5)
@pytest.mark.parametrize(("envs_per_actor", "lag"), [(6, 0), (3, 0), (12, 1)])
def test_it_trains_on_unrolls_of_the_newest_parameters(tmp_path, envs_per_actor, lag):
    """Where an actor's round has twice the unrolls of a batch, the second batch of it is an update older."""
    frames = 60 * 6 * real_runs.UNROLL_LENGTH
    left = _run(tmp_path / "run", envs_per_actor=envs_per_actor, total_frames=frames, log=tmp_path / "log")
    assert left == ([], [])
    rows = pd.read_csv(tmp_path / "run" / "progress.csv")
    assert rows["frames"].iloc[-1] == frames
    assert (rows["frames"] % (6 * real_runs.UNROLL_LENGTH) == 0).all()
    assert rows["policy_lag_max"].max() == lag
    # An episode of catch takes 9 steps; those of the unrolls that were collected and not learned from are not counted.
    assert 0 <= frames // 9 - rows["episodes"].iloc[-1] <= 12
    assert (tmp_path / "run" / "checkpoints" / f"{frames:012d}").is_dir()


@pytest.mark.slow(6)
def test_it_learns_with_replay(tmp_path):
    """Catch, from -0.6 to at least 0.9, half of each batch replayed; counted are the fresh unrolls, without lag."""
    values = {**real_runs.LEARNS, "envs_per_actor": 16, "replay_fraction": 0.5, "total_frames": 80_000}
    assert _run(tmp_path / "run", **values, log=tmp_path / "log") == ([], [])
    rows = pd.read_csv(tmp_path / "run" / "progress.csv")
    assert rows["mean_return_100"].iloc[0] < 0.5 and rows["mean_return_100"].iloc[-5:].max() >= 0.9
    assert rows["frames"].iloc[-1] == 80_000 and (rows["frames"] % (16 * 20) == 0).all()
    assert rows["policy_lag_max"].max() == 0
    # A replayed unroll is as old as the run at most, and half of that on average, as nothing has been removed yet.
    updates = 80_000 // (16 * 20)
    assert updates / 2 < rows["replay_lag_max"].max() < updates
    assert rows["replay_lag_mean"].iloc[-5:].mean() == pytest.approx(updates / 2, rel=0.2)


def test_it_replays_frame_stacks_core_states_and_tasks(tmp_path):
    frames = 20 * 6 * real_runs.UNROLL_LENGTH * 4
    values = {"env": "atari/pong,atari/breakout", "torso": "shallow", "core": "lstm", "envs_per_actor": 6}
    values |= {"batch_size": 12, "replay_fraction": 0.5, "replay_size": 24, "total_frames": frames}
    assert _run(tmp_path / "run", **values, log=tmp_path / "log") == ([], [])
    tasks = pd.read_csv(tmp_path / "run" / "tasks.csv")
    assert list(tasks["task_frames"].iloc[-2:]) == [frames / 2, frames / 2]
    # The replay keeps 24 unrolls, those of the last 4 updates; batches are drawn ahead.
    assert 3 <= pd.read_csv(tmp_path / "run" / "progress.csv")["replay_lag_max"].max() <= 7


def test_it_can_be_stopped_before_its_first_update_and_started_again(tmp_path):
    """There is nothing to save then, so the next start may have other settings."""
    frames = 6 * real_runs.UNROLL_LENGTH
    assert _run(tmp_path / "run", stopped=True, log=tmp_path / "log") == ([], [])
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []
    other = {"total_frames": 2 * frames, "envs_per_actor": 6, "learning_rate": 0.5}
    assert _run(tmp_path / "run", **other, log=tmp_path / "log") == ([], [])
    assert "resuming" not in (tmp_path / "log").read_text()
    assert (tmp_path / "run" / "checkpoints" / f"{2 * frames:012d}").is_dir()


def test_environments_that_cannot_be_reset_are_an_error(tmp_path, monkeypatch):
    (tmp_path / "never_begins.py").write_text(
        "import gymnasium\n"
        "class NeverBegins(gymnasium.Env):\n"
        "    observation_space = gymnasium.spaces.Box(-1, 1, (2,))\n"
        "    action_space = gymnasium.spaces.Discrete(2)\n"
        "    def reset(self, seed=None, options=None):\n"
        "        raise RuntimeError('the dice are lost')\n"
        "gymnasium.register('NeverBegins-v0', NeverBegins)\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises((UserError, ChildFailed), match="the dice are lost"):
        _run(tmp_path / "run", env="gymnasium/never_begins:NeverBegins-v0", log=tmp_path / "log")


def test_a_start_that_failed_leaves_nothing_behind(tmp_path):
    """Neither the folder's lock nor a server: in the same process, the next start works."""
    child = Child("in turns", real_runs.in_turns_again, tmp_path / "run", context=FORK_SERVER, log=tmp_path / "log")
    error, left = child.answer(120)
    child.end()
    assert "--queue_size" in error
    assert left == ([], [])
    assert (tmp_path / "run" / "checkpoints" / f"{60:012d}").is_dir()


def test_a_learner_that_nobody_sends_unrolls_saves_what_it_has_learned(tmp_path):
    child = Child("learner", real_runs.starve, tmp_path / "run", context=FORK_SERVER, log=tmp_path / "log")
    error = child.answer(120)
    child.end()
    assert error.startswith("No unrolls arrived for 1 s (--stall_timeout).")
    frames = 6 * real_runs.UNROLL_LENGTH
    assert (tmp_path / "run" / "checkpoints" / f"{frames:012d}").is_dir()


def test_environments_that_finish_no_unroll_any_more_end_the_run_which_saves(tmp_path):
    child = Child("in turns", real_runs.never_an_unroll_again, tmp_path / "run", context=FORK_SERVER)
    try:
        assert child.answer(60).startswith("The environments finished no unroll in 1 s (--stall_timeout): they")
    finally:
        child.end()
    frames = 2 * 6 * real_runs.UNROLL_LENGTH
    assert (tmp_path / "run" / "checkpoints" / f"{frames:012d}").is_dir()

"""Runs with several tasks, started by the command."""

from __future__ import annotations

import pandas as pd
import pytest

_BROKEN = """
import gymnasium, numpy as np, pathlib
class Broken(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 1, (10, 5), np.float32)
    action_space = gymnasium.spaces.Discrete(3)
    def reset(self, *, seed=None, options=None):
        self.steps = 0
        self.total = getattr(self, "total", 0)
        return np.zeros((10, 5), np.float32), {}
    def step(self, action):
        self.steps += 1
        self.total += 1
        if self.total == 100:
            raise RuntimeError("the emulator stopped")
        return np.zeros((10, 5), np.float32), 1.0, self.steps % 10 == 0, False, {}
gymnasium.register("Broken-v0", entry_point=Broken)
"""


@pytest.fixture
def broken(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "broken_env.py").write_text(_BROKEN)
    return {"environment": {"PYTHONPATH": str(package)}}


SMALL = ("--num_actors=2", "--envs_per_actor=4", "--batch_size=8", "--unroll_length=10", "--log_interval=0.5")
TASKS = ("catch", "gymnasium/broken_env:Broken-v0")


@pytest.mark.slow(17)
def test_a_broken_task_is_reported_by_name_and_restarted_while_the_others_continue(start, tmp_path, broken, resumed_at):
    """First with inference in the actors, then, when the run is resumed, with central inference."""
    logdir = tmp_path / "run"
    for inference, total in (("actor", 15_000), ("central", 25_000)):
        flags = (f"--env={','.join(TASKS)}", f"--inference={inference}", f"--total_frames={total}")
        run = start(*flags, *SMALL, f"--logdir={logdir}", **broken)
        assert run.finish(120) == 0, run.describe()
        assert run.err == "", run.describe()
        assert f"task {TASKS[1]} failed (RuntimeError: the emulator stopped); starting it again in 0.5 s" in run.out
        assert f"task {TASKS[1]} has been started again" in run.out
        assert "actors were restarted" not in run.out
        run.wait_until_gone()
        if inference == "central":
            assert resumed_at(run)[0] == rows["frames"].max()  # noqa: F821 - from the first run
        rows = pd.read_csv(logdir / "tasks.csv")
        last = rows[rows["frames"] == rows["frames"].max()].set_index("task")
        assert last["task_frames"].sum() == rows["frames"].max() >= total
        assert last["episodes"][TASKS[0]] > 100
        assert last["mean_return_100"][TASKS[1]] == 10
    assert (logdir / "learning_curve.png").exists()


@pytest.mark.slow(27)
def test_all_57_games_start_and_are_logged(start, tmp_path):
    """Started as users do it, and so with oneDNN's convolutions if the processor has TensorFlow use them."""
    flags = ("--num_actors=1", f"--logdir={tmp_path}", "--total_frames=5000", "--log_interval=1")
    run = start("--env=atari57", *flags, cold=True)
    assert run.finish(180) == 0, run.describe()
    rows = pd.read_csv(tmp_path / "tasks.csv")
    last = rows[rows["frames"] == rows["frames"].max()]
    assert last["task"].nunique() == 57
    assert (last["task_frames"] >= 80).all()
    assert run.err == "", run.describe()


def test_tasks_that_cannot_be_learned_together_are_reported(start, error_of, tmp_path):
    for env, message in [
        ("catch,catch", "names catch more than once"),
        ("atari/pong,atari/brekout", "did you mean atari/breakout"),
        ("atari57,", "between two commas"),
    ]:
        assert message in error_of(start(f"--env={env}", f"--logdir={tmp_path}/run"), 15)
    error = error_of(start("--env=catch,counting", "--num_actors=1", f"--logdir={tmp_path}/run"), 60)
    assert "counting cannot share one network" in error

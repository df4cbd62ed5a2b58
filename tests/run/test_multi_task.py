"""Runs of several tasks through the real main."""

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


def test_a_broken_task_is_reported_by_name_and_started_again_and_the_others_go_on(start, tmp_path, broken):
    logdir = tmp_path / "run"
    run = start(f"--env={','.join(TASKS)}", *SMALL, f"--logdir={logdir}",
                "--total_frames=15000", **broken)  # fmt: skip
    assert run.finish(120) == 0, run.describe()
    assert run.err == "", run.describe()
    assert f"task {TASKS[1]} failed (RuntimeError: the emulator stopped); starting it again in 0.5 s" in run.out
    assert f"task {TASKS[1]} has been started again" in run.out
    assert "actors were started again" not in run.out
    rows = pd.read_csv(logdir / "tasks.csv")
    last = rows[rows["frames"] == rows["frames"].max()].set_index("task")
    assert last["task_frames"].sum() == rows["frames"].max()
    assert last["episodes"][TASKS[0]] > 100
    assert last["mean_return_100"][TASKS[1]] == 10
    run.wait_until_gone()


def test_a_run_of_several_tasks_is_resumed(start, tmp_path, resumed_at):
    flags = (
        "--env=atari/skiing,atari/pong",
        "--inference=central",
        "--num_actors=2",
        "--envs_per_actor=4",
        f"--logdir={tmp_path}",
    )
    first = start(*flags, "--total_frames=4000")
    assert first.finish(90) == 0, first.describe()
    frames = pd.read_csv(tmp_path / "tasks.csv")["frames"].max()
    again = start(*flags, "--total_frames=8000")
    assert again.finish(90) == 0, again.describe()
    assert resumed_at(again)[0] == frames
    rows = pd.read_csv(tmp_path / "tasks.csv")
    last = rows[rows["frames"] == rows["frames"].max()]
    assert last["task_frames"].sum() == rows["frames"].max() >= 8000


def test_all_57_games_start_and_are_logged(start, tmp_path):
    run = start("--env=atari57", "--num_actors=1", f"--logdir={tmp_path}", "--total_frames=10000", "--log_interval=1")
    assert run.finish(180) == 0, run.describe()
    rows = pd.read_csv(tmp_path / "tasks.csv")
    last = rows[rows["frames"] == rows["frames"].max()]
    assert last["task"].nunique() == 57
    assert (last["task_frames"] >= 80).all()
    assert run.err == "", run.describe()


def test_tasks_that_cannot_be_learnt_together_are_told(start, error_of, tmp_path):
    for env, told in [
        ("catch,catch", "names catch more than once"),
        ("atari/pong,atari/brekout", "did you mean atari/breakout"),
        ("atari57,", "between two commas"),
    ]:
        assert told in error_of(start(f"--env={env}", f"--logdir={tmp_path}/run"), 15)
    error = error_of(start("--env=catch,counting", "--num_actors=1", f"--logdir={tmp_path}/run"), 60)
    assert "counting cannot share one network" in error

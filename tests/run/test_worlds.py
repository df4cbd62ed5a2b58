"""Runs in other worlds, started by the command: recurrent agents that read instructions."""

from __future__ import annotations

import importlib.util
import pathlib

import pandas as pd
import pytest

STANDIN = str(pathlib.Path(__file__).parents[1] / "dmlab_standin")
SMALL = ("--core=lstm", "--num_actors=1", "--envs_per_actor=2", "--unroll_length=10", "--batch_size=2")


def _finishes(run, logdir, seconds):
    assert run.finish(seconds) == 0, run.describe()
    assert run.err == "", run.describe()
    run.wait_until_gone()
    return pd.read_csv(logdir / "progress.csv")


@pytest.mark.skipif(importlib.util.find_spec("deepmind_lab") is not None, reason="DeepMind Lab is installed")
def test_without_deepmind_lab_the_error_says_how_to_install_it(start, error_of, tmp_path):
    error = error_of(start("--env=dmlab30", f"--logdir={tmp_path / 'run'}"), 15)
    assert "github.com/google-deepmind/lab" in error and "bazel build" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.slow(11)
def test_levels_of_deepmind_lab(start, tmp_path):
    """Uses the real module if it is installed, otherwise a stand-in that replays recorded images."""
    levels = "dmlab/rooms_watermaze,dmlab/language_select_located_object"
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    run = start(f"--env={levels}", *SMALL, f"--logdir={tmp_path}", "--total_frames=2000",
                "--reward_clipping=optimistic_asymmetric",
                environment={"PYTHONPATH": STANDIN, "TMPDIR": str(temporary)})  # fmt: skip
    rows = _finishes(run, tmp_path, 180)
    assert rows["frames"].max() >= 2000
    tasks = pd.read_csv(tmp_path / "tasks.csv").groupby("task")["task_frames"].max()
    assert sorted(tasks.index) == sorted(levels.split(",")) and tasks.min() > 0
    assert not list(temporary.glob("impala_tf-*")) and not list(temporary.glob("*dmlab*"))


@pytest.mark.slow(11)
def test_vizdoom_with_evaluations(start, tmp_path):
    """The evaluation is a process of the learner's, and has an environment process itself.

    test_evaluate.py has a run in MiniGrid.
    """
    pytest.importorskip("vizdoom")
    run = start("--env=vizdoom/Basic", *SMALL, f"--logdir={tmp_path}", "--total_frames=1000",
                "--evaluate_every=1000", "--evaluate_episodes=1")  # fmt: skip
    rows = _finishes(run, tmp_path, 180)
    assert rows["frames"].max() >= 1000
    assert rows["gradient_norm"].notna().all()
    evaluations = pd.read_csv(tmp_path / "evaluations.csv")
    assert evaluations["frames"].tolist() == [rows["frames"].max()] and evaluations["episodes"].tolist() == [1]

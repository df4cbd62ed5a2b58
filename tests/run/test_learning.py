"""The whole system learns: learner and actor processes, Reverb, parameter updates, V-trace."""

from __future__ import annotations

import json
import signal

import pandas as pd
import pytest

pytestmark = pytest.mark.slow(30)

SECONDS = 90
SETTINGS = (
    "--learning_rate=0.006",
    "--entropy_cost=0.003",
    "--rmsprop_epsilon=0.001",
    "--annealing_frames=1000000",
    "--num_actors=2",
    "--log_interval=0.5",
)


def returns(run):
    """Returns the mean returns of the last 100 episodes, one per row of the run's log."""
    progress = run.logdir / "progress.csv"
    return list(pd.read_csv(progress)["mean_return_100"]) if progress.exists() and progress.stat().st_size else []


def learns(run, seconds):
    """Waits until the return is high in three successive rows, then ends the run."""
    run.wait_until(lambda: len(returns(run)) > 3 and min(returns(run)[-3:]) >= 0.9, seconds, every=0.5)
    run.process.send_signal(signal.SIGTERM)
    assert run.finish(15) == 128 + signal.SIGTERM, run.describe()


def evaluated(start, run):
    """Has the run's newest checkpoint exported and evaluated; returns the mean return of 400 episodes."""
    output = run.logdir / "evaluation.json"
    done = start(f"--logdir={run.logdir}", "--episodes=400", f"--output={output}", command=("-m", "run.evaluate"))
    assert done.finish(SECONDS) == 0, done.describe()
    (task,) = json.loads(output.read_text())["tasks"].values()
    return task["mean"]


def test_catch_is_learned(start, tmp_path):
    """Random play returns about -0.6, perfect play 1."""
    run = start("--env=catch", *SETTINGS, f"--logdir={tmp_path}", "--total_frames=400000")
    learns(run, SECONDS)
    assert returns(run)[0] < 0.5  # It could not play from the start.


def test_only_a_recurrent_agent_solves_memory(start, tmp_path):
    """Perfect play returns 1; without memory, nothing beats chance (0.25).

    Episodes take 3 to 7 steps, so that every unroll contains several. Both agents, exported and evaluated, do as well
    as in training.
    """
    flags = ("--env=memory", "--batch_size=8", *SETTINGS)
    forgets = start(*flags, f"--logdir={tmp_path / 'none'}", "--total_frames=50000", "--log_interval=0.1")
    run = start(*flags, "--core=lstm", f"--logdir={tmp_path / 'lstm'}", "--total_frames=400000")
    assert forgets.finish(3 * SECONDS) == 0, forgets.describe()
    learns(run, 3 * SECONDS)
    # Averages all logged windows of 100 episodes in the second half, because a single one is too noisy.
    rows = pd.read_csv(tmp_path / "none" / "progress.csv")
    chance = rows[rows["frames"] > 25_000]["mean_return_100"].mean()
    assert chance < 0.35, rows[["frames", "mean_return_100"]]
    assert evaluated(start, forgets) == pytest.approx(chance, abs=0.1)
    assert evaluated(start, run) == pytest.approx(sum(returns(run)[-3:]) / 3, abs=0.08)

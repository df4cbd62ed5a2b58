"""The whole system learns: learner and actor processes, Reverb, the variable container, V-trace."""

from __future__ import annotations

import json
import signal

import pandas as pd
import pytest

pytestmark = pytest.mark.slow

SECONDS = 90
SETTINGS = (
    "--learning_rate=0.003",
    "--entropy_cost=0.003",
    "--rmsprop_epsilon=0.001",
    "--annealing_frames=1000000",
    "--num_actors=2",
    "--log_interval=1",
)


def returns(run):
    """Mean returns of the last 100 episodes, one for each row of its log."""
    progress = run.logdir / "progress.csv"
    return list(pd.read_csv(progress)["mean_return_100"]) if progress.exists() and progress.stat().st_size else []


def learns(run, seconds):
    """Waits until it does well three times in a row, and ends it."""
    run.wait_until(lambda: len(returns(run)) > 3 and min(returns(run)[-3:]) >= 0.9, seconds, every=0.5)
    run.process.send_signal(signal.SIGTERM)
    assert run.finish(15) == 128 + signal.SIGTERM, run.describe()


def evaluated(start, run):
    """Mean return of 400 episodes of its newest checkpoint, exported."""
    model, output = run.logdir / "model", run.logdir / "evaluation.json"
    done = start(f"--logdir={run.logdir}", f"--output={model}", command=("-m", "run.export"))
    assert done.finish(SECONDS) == 0, done.describe()
    done = start(f"--saved_model={model}", "--episodes=400", f"--output={output}", command=("-m", "run.evaluate"))
    assert done.finish(SECONDS) == 0, done.describe()
    (task,) = json.loads(output.read_text())["tasks"].values()
    return task["mean"]


def test_catch_is_learnt(start, tmp_path):
    """Random play returns about -0.6 and perfect play 1; it is reached after some 100,000 frames."""
    run = start("--env=catch", *SETTINGS, f"--logdir={tmp_path}", "--total_frames=400000")
    learns(run, SECONDS)
    assert returns(run)[0] < 0.5  # It did not know from the start.


def test_only_an_agent_with_a_memory_solves_memory(start, tmp_path):
    """The best play returns 1, reached after some 100,000 frames; chance is 0.25, the best without a memory.

    Episodes take 3 to 7 steps: unrolls are full of their ends. Exported and evaluated, both do as well as in training.
    """
    flags = ("--env=memory", "--batch_size=8", *SETTINGS)
    forgets = start(*flags, f"--logdir={tmp_path / 'none'}", "--total_frames=25000")
    run = start(*flags, "--core=lstm", f"--logdir={tmp_path / 'lstm'}", "--total_frames=400000")
    assert forgets.finish(3 * SECONDS) == 0, forgets.describe()
    learns(run, 3 * SECONDS)
    # Over all logged windows of 100 episodes of the last half: one alone is too noisy to tell chance.
    rows = pd.read_csv(tmp_path / "none" / "progress.csv")
    chance = rows[rows["frames"] > 12_500]["mean_return_100"].mean()
    assert chance < 0.35, rows[["frames", "mean_return_100"]]
    assert evaluated(start, forgets) == pytest.approx(chance, abs=0.1)
    assert evaluated(start, run) == pytest.approx(sum(returns(run)[-3:]) / 3, abs=0.08)

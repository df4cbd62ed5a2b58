"""The whole system learns: learner and actor processes, Reverb, the variable container, V-trace."""

from __future__ import annotations

import json

import pandas as pd
import pytest

SECONDS = 90


@pytest.mark.slow
def test_catch_is_learnt(start, tmp_path):
    """Random play returns about -0.6 and perfect play 1; it is reached after some 100,000 frames."""
    run = start(
        "--env=catch",
        "--learning_rate=0.003",
        "--entropy_cost=0.003",
        "--rmsprop_epsilon=0.001",
        "--num_actors=2",
        f"--logdir={tmp_path}",
        "--total_frames=200000",
        "--log_interval=1",
    )
    assert run.finish(3 * SECONDS) == 0, run.describe()
    seconds = run.seconds
    rows = pd.read_csv(tmp_path / "progress.csv")
    assert rows["mean_return_100"].iloc[0] < 0.5  # It did not know from the start.
    assert rows["mean_return_100"].iloc[-1] >= 0.9, rows[["frames", "mean_return_100", "entropy", "policy_lag_mean"]]
    assert seconds < SECONDS


@pytest.mark.slow
def test_only_an_agent_with_a_memory_solves_memory(start, tmp_path):
    """The best play returns 1, chance 0.25. Episodes take 3 to 7 steps: unrolls are full of their ends.

    Exported and evaluated, each does as well as at the end of its training.
    """
    trained, evaluated = {}, {}
    for core, frames in (("lstm", 180_000), ("none", 25_000)):
        run = start(
            "--env=memory",
            f"--core={core}",
            "--batch_size=8",
            "--learning_rate=0.003",
            "--entropy_cost=0.003",
            "--rmsprop_epsilon=0.001",
            "--num_actors=2",
            f"--logdir={tmp_path / core}",
            f"--total_frames={frames}",
            "--log_interval=1",
        )
        assert run.finish(3 * SECONDS) == 0, run.describe()
        # Over all logged windows of 100 episodes of the last tenth: one alone is too noisy to tell chance.
        rows = pd.read_csv(tmp_path / core / "progress.csv")
        trained[core] = rows[rows["frames"] > 0.9 * frames]["mean_return_100"].mean()
        model, output = tmp_path / f"{core}.model", tmp_path / f"{core}.json"
        export = start(f"--logdir={run.logdir}", f"--output={model}", command=("-m", "run.export"))
        assert export.finish(SECONDS) == 0, export.describe()
        evaluation = start(
            f"--saved_model={model}", "--episodes=400", f"--output={output}", command=("-m", "run.evaluate")
        )
        assert evaluation.finish(SECONDS) == 0, evaluation.describe()
        evaluated[core] = json.loads(output.read_text())["tasks"]["memory"]["mean"]
    assert trained["lstm"] >= 0.9, trained
    assert trained["none"] < 0.35, trained
    # Over three standard errors of 400 episodes that end well or badly.
    assert evaluated["lstm"] == pytest.approx(trained["lstm"], abs=0.05)
    assert evaluated["none"] == pytest.approx(trained["none"], abs=0.08)

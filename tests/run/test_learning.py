"""The whole system learns: learner and actor processes, Reverb, the variable container, V-trace."""

from __future__ import annotations

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
        "--total_frames=300000",
        "--log_interval=1",
    )
    assert run.finish(3 * SECONDS) == 0, run.describe()
    seconds = run.seconds
    rows = pd.read_csv(tmp_path / "progress.csv")
    assert rows["mean_return_100"].iloc[0] < 0.5  # It did not know from the start.
    assert rows["mean_return_100"].iloc[-1] >= 0.9, rows[["frames", "mean_return_100", "entropy", "policy_lag_mean"]]
    assert seconds < SECONDS

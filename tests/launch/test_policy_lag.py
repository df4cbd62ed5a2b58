"""Actors that wait for updates, in one process and thread: how old their parameters are, and what they compute."""

from __future__ import annotations

import pathlib
import sys

import numpy as np
import pandas as pd
import pytest

sys.path.append(str(pathlib.Path(__file__).parent))  # Children get it from here, too.

import real_runs

from impala_tf.launch import local  # noqa: F401 - has the fork server import TensorFlow, once for all.
from impala_tf.processes.child import FORK_SERVER, Child


def _in_a_process(tmp_path, work, *arguments):
    child = Child("test", work, tmp_path, *arguments, context=FORK_SERVER, log=tmp_path / "log")
    try:
        return child.answer(200)
    finally:
        child.end()


def _from_the_start(lag, updates):
    """There are no parameters older than those of the start."""
    return [(min(k, lag), min(k, lag)) for k in range(updates)]


@pytest.mark.slow(40)
def test_catch_is_learned_with_parameters_exactly_as_old_as_set(tmp_path):
    frames, per_update = {0: 80_000, 1: 80_000, 10: 110_000}, 32 * 20
    runs = [{**real_runs.LEARNS, "policy_lag": lag, "total_frames": total} for lag, total in frames.items()]
    resumed = {**runs[-1], "total_frames": frames[10] + 30 * per_update, "annealing_frames": 1_000_000}
    found = _in_a_process(tmp_path, real_runs.lags_of_all, [*runs, resumed])
    for lag, lags in zip(frames, found):
        assert lags == _from_the_start(lag, -(-frames[lag] // per_update)), lag
        rows = pd.read_csv(tmp_path / str(lag) / "progress.csv")
        assert rows["mean_return_100"].max() >= 0.9, lag
        # Some updates each; those of the second start come last.
        full = rows[rows["frames"].between((lag + 20) * per_update, frames[lag])]
        assert (full["policy_lag_max"] == lag).all() and (full["policy_lag_mean"].iloc[-10:] == lag).all()
    assert found[3] == _from_the_start(10, len(found[3])) and len(found[3]) == pytest.approx(30, abs=1)


def test_batched_a2c_computes_what_impala_does_with_lag_0(tmp_path):
    impala, sync_step, dynamic = _in_a_process(tmp_path, real_runs.same_three_ways)
    for name, others in (("sync_step", sync_step), ("dynamic", dynamic)):
        for one, other in zip(impala, others):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6, err_msg=name)

"""The rows of Table 1: which there are, and that they run."""

from __future__ import annotations

import logging

import pytest

from impala_tf.architectures.table import ARCHITECTURES
from impala_tf.benchmark import setup, table_1
from impala_tf.config import from_values
from impala_tf.errors import UserError


def _setup(**values):
    return setup.resolve(from_values({"env": "catch", "num_actors": 2, "batch_size": 8, **values}))


def test_every_architecture_has_rows_with_the_same_actors():
    rows = table_1.rows(_setup())
    assert {run.config.launch.architecture for run in rows.values()} == set(ARCHITECTURES)
    assert {(run.topology.num_actors, run.topology.envs_per_actor) for run in rows.values()} == {(2, 4)}
    assert [name for name, run in rows.items() if run.config.launch.inference == "central"] == [
        "Batched A2C (dyn. batch)",
        "IMPALA (dyn. batch)",
    ]
    assert [rows[name].policy_batch for name in ("Batched A2C (sync step)", "Batched A2C (sync traj.)")] == [8, 4]


def test_what_it_varies_cannot_be_set():
    with pytest.raises(UserError, match="--table compares architectures: remove --inference=central"):
        table_1.rows(_setup(inference="central"))
    with pytest.raises(UserError, match="set --batch_size to 14"):
        table_1.rows(_setup(envs_per_actor=7))


@pytest.mark.slow
def test_rows_run_and_are_compared(monkeypatch):
    """How fast they are is not tested."""
    level = logging.getLogger("impala_tf.launch").level
    kept = ("Batched A2C (sync traj.)", "IMPALA")
    monkeypatch.setattr(table_1, "ROWS", {name: table_1.ROWS[name] for name in ("Batched A2C (sync step)", *kept)})
    monkeypatch.setattr(table_1, "rows", lambda run, every=table_1.rows: {name: every(run)[name] for name in kept})
    result = table_1.measure(_setup(), seconds=0.3, repeats=1)
    for name, row in result["rows"].items():
        (only,) = row["rounds"]
        assert row["frames_per_second"] == dict.fromkeys(("mean", "low", "high"), only["frames_per_second"])
        assert only["frames_per_second"] > 0 and (only["policy_lag_max"] == 0) == name.startswith("Batched")
        assert name in table_1.table(result)
    ratios = {name: row["ratio_to_impala"]["mean"] for name, row in result["rows"].items()}
    speeds = {name: row["frames_per_second"]["mean"] for name, row in result["rows"].items()}
    assert ratios == {name: speed / speeds["IMPALA"] for name, speed in speeds.items()}
    assert logging.getLogger("impala_tf.launch").level == level  # It was quiet only meanwhile.

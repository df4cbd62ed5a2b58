"""Timings add up, and spans are written as they happen."""

from __future__ import annotations

import pathlib

import pytest

from impala_tf.processes import timings
from impala_tf.processes.parent import Spent
from impala_tf.processes.timings import Timings, shares


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(timings.time, "perf_counter", lambda: now[0])
    return now


def test_laps_add_up_by_activity(clock, tmp_path: pathlib.Path):
    measured = Timings(["inference", "environment", "idle"], tmp_path / "spans.csv")
    clock[0] += 50  # Setting up does not count.
    measured.begin()
    for activity, seconds in [("inference", 1.0), ("environment", 2.0), ("inference", 0.5)]:
        clock[0] += seconds
        measured.lap(activity)
    clock[0] += 10
    measured.begin()
    clock[0] += 1
    measured.lap("environment")
    clock[0] += 0.5
    spent = measured.spent
    assert spent == Spent({"inference": 1.5, "environment": 3.0, "idle": 0.0}, 15.0)
    assert shares(spent) == "inference 10%, environment 20%, idle 0%"
    # Without closing it.
    rows = ["inference,150.0,151.0", "environment,151.0,153.0", "inference,153.0,153.5", "environment,163.5,164.5"]
    assert (tmp_path / "spans.csv").read_text().splitlines() == rows
    measured.lap("idle")
    assert spent.seconds["idle"] == 0  # A record does not change later.


def test_an_unknown_activity_is_an_error():
    with pytest.raises(KeyError):
        Timings(["inference"]).lap("inferense")

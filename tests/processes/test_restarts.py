"""Restarts become rare where nothing helps, and quick again where something did."""

from __future__ import annotations

import pytest

from impala_tf.processes import restarts as backoff


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(backoff.time, "monotonic", lambda: now[0])
    return now


def test_waits_grow_up_to_half_a_minute(clock):
    schedule = backoff.Backoff()
    assert not schedule.waiting
    waits = []
    for _ in range(8):
        waits.append(schedule.failed())
        assert schedule.waiting and schedule.seconds_left == pytest.approx(waits[-1])
        clock[0] += waits[-1]
        assert schedule.waiting and schedule.seconds_left == 0
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert schedule.restarts == 8


def test_a_minute_without_failure_is_good_health(clock):
    schedule = backoff.Backoff()
    clock[0] += 61  # A failed attempt to start again is none.
    assert [schedule.failed(), schedule.failed(), schedule.failed()] == [0.5, 1, 2]
    schedule.started()
    assert not schedule.waiting and schedule.seconds_left == 0
    clock[0] += 59
    assert schedule.failed() == 4
    schedule.started()
    clock[0] += 61
    assert schedule.failed() == 0.5

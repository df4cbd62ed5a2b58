"""Restarts become rare while they do not help, and quick again after a minute of good health."""

from __future__ import annotations

import pytest

from impala_tf.processes import restarts
from impala_tf.processes.restarts import Restarted


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(restarts.time, "monotonic", lambda: now[0])
    return now


def test_waits_grow_up_to_half_a_minute(clock):
    life = Restarted(lambda restarts: f"life {restarts}")
    assert life.due and life.current is None
    waits = []
    for number in range(8):
        assert life.start() == life.current == f"life {number}" and not life.due
        waits.append(life.failed())
        assert life.current is None and not life.due
        clock[0] += waits[-1] - 0.01
        assert not life.due
        clock[0] += 0.01
        assert life.due
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert life.restarts == 8


def test_a_minute_without_failure_is_good_health(clock):
    life = Restarted(str)
    life.start()
    clock[0] += 59
    assert life.failed() == 0.5
    clock[0] += 1
    life.start()
    clock[0] += 59
    assert life.failed() == 1
    clock[0] += 1
    life.start()
    clock[0] += 61
    assert [life.failed(), life.failed()] == [0.5, 1]


def test_a_start_that_fails(clock):
    def start(restarts):
        if restarts < 2:
            raise OSError(restarts)
        return restarts

    life = Restarted(start)
    for number, wait in enumerate([0.5, 1]):
        with pytest.raises(OSError, match=str(number)):
            life.start()
        assert life.current is None and life.due
        assert life.failed() == wait
        clock[0] += wait
    assert life.start() == 2

"""A leader and its followers meet; nobody waits for ever."""

from __future__ import annotations

import threading
import time

import pytest

from impala_tf.processes.child import SPAWN
from impala_tf.processes.meeting import Late, Meeting


def test_nobody_goes_on_before_all_have_come_and_nobody_twice():
    meeting, rounds = Meeting(SPAWN, 2), [0, 0]

    def follow(number):
        while rounds[number] < 50:
            meeting.follow(number, 10)
            rounds[number] += 1

    threads = [threading.Thread(target=follow, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for number in range(50):
        assert max(rounds) <= number  # Those who came wait for the leader.
        assert meeting.lead(10, lambda: True)
    for thread in threads:
        thread.join(10)
    assert rounds == [50, 50]


def test_those_who_wait_look_at_what_else_goes_on():
    start, looks = time.monotonic(), []
    assert not Meeting(SPAWN, 1).lead(600, lambda: looks.append(1) or len(looks) < 2)
    assert not Meeting(SPAWN, 1).follow(0, 600, lambda: False)
    assert time.monotonic() - start < 5 and len(looks) == 2


def test_those_who_wait_for_too_long_are_told():
    start = time.monotonic()
    with pytest.raises(Late):
        Meeting(SPAWN, 2).lead(0.1, lambda: True)
    with pytest.raises(Late):
        Meeting(SPAWN, 2).follow(1, 0.1)
    assert time.monotonic() - start < 5

"""An update takes every actor's share once, whoever is killed when."""

from __future__ import annotations

import random
import threading
import time

import pytest

from impala_tf.processes.child import SPAWN
from impala_tf.processes.gate import Gate


class _Killed(Exception):
    pass


class _Late(Exception):
    pass


def _at_most(seconds):
    """What a waiting actor looks at: raises `_Late` once the time is over."""
    end = time.monotonic() + seconds

    def look():
        if time.monotonic() > end:
            raise _Late

    return look


class _Server:
    """Takes unrolls, each with the number of updates before it was acted, and kills some of those who send them."""

    def __init__(self, seed, kills):
        self._lock, self._rng, self._kills = threading.Lock(), random.Random(seed), kills
        self.unrolls: list[int] = []

    def take(self, updates):
        with self._lock:
            before, after = (self._kills and self._rng.random() < 0.2 for _ in range(2))
            if before:
                raise _Killed
            self.unrolls.append(updates)
            if after:
                raise _Killed

    def arrived(self):
        return len(self.unrolls)


def _follow(gate, number, server, done):
    """An actor over all of its lives."""
    starts = 0
    while not done.is_set():
        actor = gate.actor(number)
        actor._due = 0  # A new process has not been told yet.
        if starts:
            actor.restart()
        starts += 1
        try:
            while True:
                due = actor.due(_at_most(0.6), server.arrived)
                server.take(gate._updates.value)
                actor.sent(1)
                assert due >= 1
        except _Killed:
            pass
        except _Late:
            assert done.is_set()


@pytest.mark.parametrize("kills", [False, True])
def test_every_update_gets_the_unrolls_acted_after_the_one_before(kills, monkeypatch):
    monkeypatch.setattr("impala_tf.processes.gate._LOOK_SECONDS", 0.01)
    shares, updates = [1, 3, 2], 60
    gate, server, done = Gate(SPAWN, shares), _Server(1, kills), threading.Event()
    threads = [threading.Thread(target=_follow, args=(gate, i, server, done)) for i in range(3)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 60
    for number in range(1, updates + 1):
        while server.arrived() < 6 * number:
            assert time.monotonic() < end
            time.sleep(0.001)
        if number == updates:
            done.set()
        else:
            gate.open()
    for thread in threads:
        thread.join(10)
    assert server.unrolls == [k for k in range(updates) for _ in range(6)]


def test_a_restarted_actor_waits_until_it_is_known_what_has_arrived():
    gate = Gate(SPAWN, [2, 2])
    one, other = gate.actor(0), gate.actor(1)
    one.restart()
    with pytest.raises(_Late):
        one.due(_at_most(0.1), lambda: 1)  # The one unroll could be the other's.
    other.due(_at_most(1), lambda: 0)
    other.sent(2)
    with pytest.raises(_Late):
        one.due(_at_most(0.1), lambda: None)  # The server does not answer.
    assert one.due(_at_most(1), lambda: 3) == 1

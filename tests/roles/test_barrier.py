"""The barrier at which learner and actors meet."""

from __future__ import annotations

import threading
import time

import pytest

from impala_tf.errors import UserError
from impala_tf.processes.child import SPAWN
from impala_tf.roles.barrier import wait_at


def test_all_go_on_when_the_last_has_come():
    barrier, arrived = SPAWN.Barrier(2), []
    thread = threading.Thread(target=lambda: (wait_at(barrier, 10), arrived.append(1)))
    thread.start()
    assert not arrived
    wait_at(barrier, 10)
    thread.join(10)
    assert arrived == [1]


def test_those_who_wait_for_too_long_are_told():
    start = time.monotonic()
    barrier = SPAWN.Barrier(2)
    with pytest.raises(UserError, match=r"did not meet within 0\.1 s"):
        wait_at(barrier, 0.1)
    assert time.monotonic() - start < 5
    with pytest.raises(UserError, match="did not meet"):  # At once: the others have given up.
        wait_at(barrier, 600)

"""Where several processes meet again and again: all others wait until the leader lets them go on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

_LOOK_SECONDS = 0.25


class Late(Exception):
    """Others did not come in time."""


class Meeting:
    """A leader and its followers, in processes of their own. Pass it to them when they start.

    Every wait is made of short ones, between which a process can look at what else goes on.
    """

    def __init__(self, context: Any, followers: int):
        """
        Args:
          context: of multiprocessing, with which the processes are started.
          followers: their number.
        """
        self._arrived = context.Semaphore(0)
        # One each: of a common one, a fast follower could take two.
        self._go_on = [context.Semaphore(0) for _ in range(followers)]

    def lead(self, seconds: float, look: Callable[[], bool]) -> bool:
        """Waits until all followers have come, and lets them go on. For the leader.

        Args:
          seconds: to wait at most.
          look: called several times a second; returns whether to wait on.

        Returns:
          False if `look` ended the wait: the followers then stay.

        Raises:
          Late: a follower did not come within `seconds`.
        """
        end = time.monotonic() + seconds
        if not all(_acquire(self._arrived, end, look) for _ in self._go_on):
            return False
        for each in self._go_on:
            each.release()
        return True

    def follow(self, follower: int, seconds: float, look: Callable[[], bool] = lambda: True) -> bool:
        """Comes, and waits until the leader says go. For one of the followers, from 0; otherwise as `lead`."""
        self._arrived.release()
        return _acquire(self._go_on[follower], time.monotonic() + seconds, look)


def _acquire(semaphore: Any, end: float, look: Callable[[], bool]) -> bool:
    while not semaphore.acquire(timeout=max(0.0, min(_LOOK_SECONDS, end - time.monotonic()))):
        if not look():
            return False
        if time.monotonic() >= end:
            raise Late
    return True

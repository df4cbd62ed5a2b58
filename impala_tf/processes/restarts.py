"""Restarts something that keeps failing: soon at first, then less and less often."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

_FIRST_WAIT = 0.5  # Seconds.
_LONGEST_WAIT = 30.0
_HEALTHY_SECONDS = 60.0

T = TypeVar("T")


class Restarted(Generic[T]):
    """A process or an environment over all of its lives.

    After a failure, the next start is due in 0.5, 1, 2, ... 30 s; in 0.5 s again after a minute without a failure.

    Attributes:
      current: what `start` returned last; None before the first start, and from a failure to the next start.
      restarts: failures so far.
    """

    def __init__(self, start: Callable[[int], T]):
        """Starts nothing yet.

        Args:
          start: starts it and returns it; takes `restarts`.
        """
        self._start = start
        self.current: T | None = None
        self.restarts = 0
        self._wait, self._due = _FIRST_WAIT, 0.0
        self._last = time.monotonic()  # The last start or failure.

    def start(self) -> T:
        """Starts it. If that raises, it is still due; call `failed` to put off the next attempt."""
        self.current = self._start(self.restarts)
        self._last = time.monotonic()
        return self.current

    def failed(self) -> float:
        """Records a failure and drops `current`, without closing it; returns the seconds until the next start."""
        self.current = None
        now = time.monotonic()
        if now - self._last > _HEALTHY_SECONDS:
            self._wait = _FIRST_WAIT
        wait, self._wait = self._wait, min(2 * self._wait, _LONGEST_WAIT)
        self._last, self._due = now, now + wait
        self.restarts += 1
        return wait

    @property
    def due(self) -> bool:
        """Whether it is down and the time to start it has come."""
        return self.current is None and time.monotonic() >= self._due

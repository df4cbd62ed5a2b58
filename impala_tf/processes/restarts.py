"""When to start again what has failed: soon at first, then less and less often."""

from __future__ import annotations

import time

_SHORTEST_SECONDS = 0.5
_LONGEST_SECONDS = 30.0
_HEALTHY_SECONDS = 60.0


class Backoff:
    """Schedules restarts 0.5, 1, 2, ... 30 s after a failure; 0.5 s again after a minute without one."""

    def __init__(self) -> None:
        """Counts from now, the first start."""
        self._wait, self._restart_at = _SHORTEST_SECONDS, 0.0
        self._last = time.monotonic()  # Start, or attempt at one.
        self.restarts = 0

    def failed(self) -> float:
        """Takes note of a failure and schedules the next start; returns the seconds until then."""
        if time.monotonic() - self._last > _HEALTHY_SECONDS:
            self._wait = _SHORTEST_SECONDS
        self._last = time.monotonic()
        wait, self._wait = self._wait, min(2 * self._wait, _LONGEST_SECONDS)
        self._restart_at = time.monotonic() + wait
        self.restarts += 1
        return wait

    @property
    def waiting(self) -> bool:
        """Whether it has failed and not been started since."""
        return bool(self._restart_at)

    @property
    def seconds_left(self) -> float:
        """Until the scheduled start; 0 where it is due or none is scheduled."""
        return max(0.0, self._restart_at - time.monotonic()) if self._restart_at else 0.0

    def started(self) -> None:
        """Takes note of the start."""
        self._last, self._restart_at = time.monotonic(), 0.0

"""Measures where a process's time goes: seconds by activity and, on request, every single span."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Sequence

from impala_tf.processes.parent import Spent


class Timings:
    """Adds up time by activity: each lap is the time since the end of the lap before.

    Attributes:
      seconds: {activity: seconds} since the first `begin`.
    """

    def __init__(
        self,
        activities: Sequence[str],
        spans: pathlib.Path | None = None,
        on_lap: Callable[[], None] = lambda: None,
    ):
        """
        Args:
          activities: the names that `lap` accepts.
          spans: CSV file to which each lap is written as a row (activity, start, end), in seconds of
            `time.perf_counter`, which on Linux is one clock for all processes. Rows are written at once, since the
            process may be killed at any time. None: no file.
          on_lap: called at the end of each lap: `parent.beat`, where these are the laps of the process's own work.
        """
        self.seconds = dict.fromkeys(activities, 0.0)
        self._on_lap = on_lap
        self._last = time.perf_counter()
        self._start: float | None = None
        self._file = open(spans, "w", buffering=1) if spans else None  # noqa: SIM115 - open until the process ends

    def begin(self) -> None:
        """Starts a lap; the time since the last one counts for no activity."""
        self._last = time.perf_counter()
        if self._start is None:  # Setting up, before the first lap, does not count.
            self._start = self._last

    def lap(self, activity: str) -> None:
        """Ends a lap, which was spent on `activity`, and starts the next.

        Raises:
          KeyError: unknown activity.
        """
        now = time.perf_counter()
        self.seconds[activity] += now - self._last
        if self._file:
            self._file.write(f"{activity},{self._last!r},{now!r}\n")
        self._last = now
        self._on_lap()

    @property
    def spent(self) -> Spent:
        """The record to send to the parent; after the first `begin`."""
        assert self._start is not None, "begin comes first"
        return Spent(dict(self.seconds), time.perf_counter() - self._start)


def shares(spent: Spent) -> str:
    """Formats the share of the time spent on each activity: "inference 20%, environment 70%"."""
    return ", ".join(f"{activity} {seconds / spent.elapsed:.0%}" for activity, seconds in spent.seconds.items())

"""Which of many environments that fail alike speaks for all of them on the console."""

from __future__ import annotations

import re
import time

_NUMBERS_AND_PATHS = re.compile(r"/\S+|0x[0-9a-f]+|\d+")
_SILENCE_SECONDS = 60.0


class Speakers:
    """For each cause of failures, one worker whose messages are shown; those of the others go to the log file only.

    If it has been silent for a minute, the next one with the same cause takes over.
    """

    def __init__(self) -> None:
        self._by_cause: dict[str, tuple[int, float]] = {}  # {cause: (worker, time of its last message)}.

    def may_say(self, worker: int, name: str, cause: str) -> bool:
        """Returns whether a worker's failure is to be shown.

        Args:
          worker: its number.
          name: of its environment.
          cause: of the failure; numbers and paths in it make no difference.
        """
        cause = f"{name}: {_NUMBERS_AND_PATHS.sub('', cause)}"
        now = time.monotonic()
        self._by_cause = {key: (its, at) for key, (its, at) in self._by_cause.items() if now - at < _SILENCE_SECONDS}
        if self._by_cause.get(cause, (worker, now))[0] != worker:
            return False
        self._by_cause[cause] = worker, now
        return True

    def speaks(self, worker: int) -> bool:
        """Returns whether a failure of this worker is the last that was shown for its cause."""
        return any(its == worker for its, _ in self._by_cause.values())

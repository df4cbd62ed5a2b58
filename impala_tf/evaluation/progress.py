"""Logs the progress of an evaluation on one task."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

import numpy as np

from impala_tf.evaluation.episodes import Episode

_LOGGER = logging.getLogger(__name__)
_REPORT_SECONDS = 10.0


class Progress:
    """Logs a line every 10 s.

    Args:
      label: names the task.
      played: the finished episodes, by their numbers; grows with the evaluation.
      total: number of episodes to play.
    """

    def __init__(self, label: str, played: Mapping[int, Episode], total: int):
        self._label, self._played, self._total = label, played, total
        self._start = self._reported = time.monotonic()
        self._before, self._steps = len(played), 0

    def tick(self, steps: int) -> None:
        """Reports if the last report is long enough ago; `steps` is the number of agent steps so far."""
        self._steps = steps
        if time.monotonic() - self._reported > _REPORT_SECONDS:
            self.report()

    def report(self) -> None:
        """Logs the number of finished episodes, their mean return, the speed and the time left."""
        self._reported = time.monotonic()
        played, seconds = len(self._played), self._reported - self._start
        line = f"{played} of {self._total} episodes"
        if played:
            line += f", mean return {np.mean([episode.episode_return for episode in self._played.values()]):.2f}"
        line += f", {self._steps / seconds:,.0f} agent steps/s"
        if self._before < played < self._total:
            left = seconds / (played - self._before) * (self._total - played)
            line += f", about {left / 60:.0f} min left" if left > 90 else f", about {left:.0f} s left"
        _LOGGER.info("%s: %s", self._label, line)

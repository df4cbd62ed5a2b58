"""Trains runs, several at once: those of a sweep or an experiment."""

from __future__ import annotations

import dataclasses
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence

from impala_tf import config as config_lib
from impala_tf.config import Config
from impala_tf.errors import UserError
from impala_tf.experiments import runs
from impala_tf.processes.command import Command, end_all
from impala_tf.records import csv_file
from impala_tf.records.logdir import LogDir

_LOGGER = logging.getLogger(__name__)
_LOOK_SECONDS = 0.2
_SAVE_SECONDS = 60.0  # A run takes 8 s at most to save, and then draws its curve.

WAITING, TRAINING, INTERRUPTED, FINISHED, FAILED = "waiting", "training", "interrupted", "finished", "failed"


@dataclasses.dataclass
class TrainingRun:
    """A run to be trained.

    Attributes:
      name: for messages.
      config: its settings, its folder included.
      state: one of the words above.
      error: why it failed.
    """

    name: str
    config: Config
    state: str = WAITING
    error: str = ""

    @property
    def logdir(self) -> LogDir:
        """Its folder."""
        return LogDir(self.config.run.logdir)

    @property
    def trained(self) -> bool:
        """Whether its checkpoint has all its frames."""
        return self.logdir.frames >= self.config.run.total_frames

    def look(self, where: str, advice: str) -> None:
        """Finds out whether it is trained already, or can be resumed.

        Args:
          where: what its folder belongs to, for messages: "--output=runs/sweep holds a sweep".
          advice: what to do about other settings, for messages.

        Raises:
          UserError: the run in its folder has other settings.
        """
        logdir = self.logdir
        if logdir.config.exists():
            found = config_lib.fixed_differences(logdir.read_settings(), self.config) if logdir.frames else []
            if found:
                raise UserError(f"{where} with other settings: {'; '.join(found)} ({self.name}). {advice}")
            logdir.check(self.config)
        if self.trained:
            self.state = FINISHED

    def final_return(self) -> float:
        """Mean return of the last 100 episodes; NaN if none has ended."""
        return float(csv_file.last(self.logdir.progress).get("mean_return_100") or "nan")

    def share(self) -> float:
        """How much of its training is done, from 0 to 1, as far as its log tells."""
        if self.state in (FINISHED, FAILED):
            return 1.0
        frames = int(csv_file.last(self.logdir.progress).get("frames") or 0)
        return min(1.0, frames / self.config.run.total_frames)


def train(
    whole: Sequence[TrainingRun],
    at_once: int,
    stop: threading.Event,
    say_every: float,
    on_end: Callable[[TrainingRun], None] = lambda run: None,
) -> None:
    """Trains what is not finished, until everything has ended or `stop` is set; then runs save and end.

    A run that fails does not stop the others; the next start tries it again.

    Args:
      whole: the runs.
      at_once: runs that train at the same time.
      stop: ends the training early.
      say_every: seconds between lines of progress.
      on_end: called with each run that has finished or failed.

    Raises:
      UserError: a run cannot be started.
    """
    waiting = [each for each in whole if each.state != FINISHED]
    training: list[tuple[TrainingRun, Command]] = []
    said = time.monotonic()
    left = _TimeLeft(whole)
    try:
        while (waiting or training) and not stop.wait(_LOOK_SECONDS):
            for each, command in list(training):
                if command.status is not None:
                    training.remove((each, command))
                    _end(each, command)
                    on_end(each)
            while waiting and len(training) < at_once:
                each = waiting.pop(0)
                each.state = TRAINING
                training.append((each, runs.start(each.config)))
            if time.monotonic() - said >= say_every:
                said = time.monotonic()
                _say(whole, [each for each, _ in training], left)
    finally:
        if running := sum(command.status is None for _, command in training):
            _LOGGER.info("ending; runs that save: %d (up to %.0f s)", running, _SAVE_SECONDS)
        end_all([command for _, command in training], _SAVE_SECONDS)
        for each, command in training:
            if command.status == 0:
                _end(each, command)
                on_end(each)
            else:
                each.state = FINISHED if each.trained else INTERRUPTED


def _end(each: TrainingRun, command: Command) -> None:
    command.close()
    each.state, each.error = (FINISHED, "") if command.status == 0 else (FAILED, command.error())
    if each.state == FAILED:
        _LOGGER.warning("%s failed: %s", each.name, each.error)
    else:
        at = f"{each.logdir.frames:,}"
        _LOGGER.info("%s finished: return %.2f after %s frames", each.name, each.final_return(), at)


class _TimeLeft:
    """Estimates when everything will have ended, from the share of the work that was done since the start."""

    def __init__(self, whole: Sequence[TrainingRun]):
        self._whole, self._start = whole, time.monotonic()
        self._before = self._done()

    def _done(self) -> float:
        return sum(each.share() * each.config.run.total_frames for each in self._whole)

    def text(self) -> str:
        """Returns "1 h 5 min left"; "" before anything is known."""
        done = self._done()
        if done <= self._before:
            return ""
        rest = sum(each.config.run.total_frames for each in self._whole) - done
        minutes = math.ceil(rest * (time.monotonic() - self._start) / (done - self._before) / 60)
        return f"about {minutes // 60} h {minutes % 60} min left" if minutes >= 60 else f"about {minutes} min left"


def _say(whole: Sequence[TrainingRun], training: Sequence[TrainingRun], left: _TimeLeft) -> None:
    ended = sum(each.state in (FINISHED, FAILED) for each in whole)
    parts = [f"{ended} of {len(whole)} ended", left.text()]
    for each in training:
        last = csv_file.last(each.logdir.progress)
        if not last:
            parts.append(f"{each.name}: starting")
            continue
        mean = each.final_return()
        returned = "no episode yet" if math.isnan(mean) else f"return {mean:.2f}"
        parts.append(f"{each.name}: {each.share():.0%}, {returned}")
    _LOGGER.info("  %s", "  ".join(part for part in parts if part))

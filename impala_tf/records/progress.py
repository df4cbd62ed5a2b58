"""The progress of a run: a log line, TensorBoard scalars and a row of progress.csv at every interval."""

from __future__ import annotations

import collections
import dataclasses
import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from impala_tf import suites
from impala_tf.errors import UserError
from impala_tf.records.csv_file import CSVFile
from impala_tf.records.logdir import LogDir
from impala_tf.records.task_log import TaskLog, summary
from impala_tf.records.tensorboard import TensorBoard
from impala_tf.structures import Batch

_LOGGER = logging.getLogger(__name__)

_WINDOW_SECONDS = 10


@dataclasses.dataclass
class _Lags:
    """Sums over the policy lags of transitions; mean and maximum are NaN if there were none."""

    count: int = 0
    total: int = 0
    largest: int = 0

    def add(self, lags: np.ndarray) -> None:
        if lags.size:
            self.count += lags.size
            self.total += int(lags.sum())
            self.largest = max(self.largest, int(lags.max()))

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else float("nan")

    @property
    def maximum(self) -> float:
        return self.largest if self.count else float("nan")


@dataclasses.dataclass
class _Interval:
    """Sums over the updates since the last report, since keeping every update's numbers would take memory by speed.

    Attributes:
      start: when it began, in seconds of `time.monotonic`.
      steps: learner steps.
      metrics: sums of the updates' metrics.
      waiting: seconds that the learner waited for batches.
      lags, replay_lags: policy lags of the fresh transitions and of the replayed ones.
    """

    start: float
    steps: int = 0
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    waiting: float = 0.0
    lags: _Lags = dataclasses.field(default_factory=_Lags)
    replay_lags: _Lags = dataclasses.field(default_factory=_Lags)

    def add(self, lags: np.ndarray, fresh: np.ndarray, metrics: dict[str, tf.Tensor], waited: float) -> None:
        """Adds an update: its transitions' lags [T, B], which unrolls are fresh [B], metrics, seconds waited."""
        self.steps += 1
        self.waiting += waited
        for name, value in metrics.items():
            self.metrics[name] = self.metrics.get(name, 0.0) + float(value)
        self.lags.add(lags[:, fresh])
        self.replay_lags.add(lags[:, ~fresh])


class Progress:
    """Collects statistics of the learner's updates and reports them at intervals.

    Frames are environment frames and lengths are agent steps. Policy lag is the number of learner steps between the
    parameters that acted and the parameters being updated. Episodes, returns, lengths and policy lag are those of fresh
    unrolls; replayed ones have been counted before, and their lag is reported apart.
    """

    def __init__(
        self,
        logdir: LogDir,
        tasks: Sequence[str],
        frames_per_step: int,
        total_frames: int,
        state: dict[str, Any] | None,
    ):
        """Opens the log files; a resumed run appends to them.

        Args:
          logdir: folder of the run.
          tasks: environment ids of the run's tasks; a task's index is its id in the trajectories.
          frames_per_step: environment frames per agent step.
          total_frames: environment frames of the whole run, for the time left.
          state: the result of `state` saved with the checkpoint that the run resumes from; None for a new run.

        Raises:
          UserError: progress.csv or tasks.csv has been damaged.
        """
        state = state or {"seconds": 0.0, "frames": 0, "episodes": 0, "returns": [], "lengths": []}
        self._logdir = logdir
        self._total_frames = total_frames
        self._seconds_before, self._frames_before = state["seconds"], state["frames"]
        self._frames, self._episodes = state["frames"], state["episodes"]
        self._return_sum = state.get("return_sum", 0.0)  # Of all episodes; earlier versions did not keep it.
        self._returns = collections.deque(state["returns"], maxlen=100)
        self._lengths = collections.deque(state["lengths"], maxlen=100)
        # Mean of the first 100 returns; None before, and if a version that did not keep it began the run.
        self._first_return: float | None = state.get("first_return")
        self._start = time.monotonic()
        self._window = collections.deque([(self._start, self._frames, 0)])
        self._steps_here = 0
        self._interval = _Interval(self._start)
        self._csv = CSVFile(logdir.progress, keep_up_to=self._frames)
        self._tasks = tasks
        self._task_log: TaskLog | None = None
        if len(tasks) > 1:
            self._task_log = TaskLog(logdir, tasks, frames_per_step, self._frames, state.get("tasks"))
        self._tensorboard = TensorBoard(logdir)

    @property
    def mean_return(self) -> float:
        """Mean undiscounted return of the last 100 full episodes; NaN before the first one ends."""
        return float(np.mean(self._returns)) if self._returns else float("nan")

    def state(self) -> dict[str, Any]:
        """Returns the counts to save with a checkpoint, from which a resumed run continues."""
        return {
            "seconds": self._seconds_before + time.monotonic() - self._start,
            "frames": self._frames,
            "episodes": self._episodes,
            "return_sum": self._return_sum,
            "returns": list(self._returns),
            "lengths": list(self._lengths),
            "first_return": self._first_return,
            **({"tasks": self._task_log.state()} if self._task_log else {}),
        }

    def add(self, batch: Batch, learner_step: int, frames: int, metrics: dict[str, tf.Tensor], waited: float) -> None:
        """Records one learner step.

        Args:
          batch: the batch of the update. Entry 0 of an unroll repeats the last entry of the unroll before it, so it is
            not counted.
          learner_step: learner step before the update.
          frames: environment frames after the update.
          metrics: metrics of the update.
          waited: seconds that the learner waited for the batch.

        Raises:
          UserError: an episode's return is not finite.
        """
        unrolls, fresh = batch.unrolls, np.asarray(batch.fresh)
        lengths = np.asarray(unrolls.episode_length)[1:, fresh]
        ended = lengths > 0
        returns = np.asarray(unrolls.episode_return)[1:, fresh][ended]
        if not np.isfinite(returns).all():
            raise UserError(
                f"An episode that ended before {frames:,} frames had the return {returns[~np.isfinite(returns)][0]}: "
                "its rewards were infinite, NaN or too large. Mend the environment; the last checkpoint is older."
            )
        first = 100 - self._episodes  # Of these returns, how many belong to the first 100.
        if 0 < first <= len(returns):
            self._first_return = float(np.mean([*self._returns, *returns[:first]]))
        self._episodes += len(returns)
        self._return_sum += float(returns.sum(dtype=np.float64))
        self._returns.extend(float(r) for r in returns)
        self._lengths.extend(int(n) for n in lengths[ended])
        if self._task_log:
            self._task_log.add(batch)
        self._interval.add(learner_step - np.asarray(unrolls.learner_step)[1:], fresh, metrics, waited)
        self._frames = frames
        self._steps_here += 1
        now = time.monotonic()
        self._window.append((now, frames, self._steps_here))
        while now - self._window[0][0] > _WINDOW_SECONDS and len(self._window) > 2:
            self._window.popleft()

    def report(self, refused: int) -> None:
        """Logs the progress line and writes a row of progress.csv and the TensorBoard scalars.

        Args:
          refused: number of updates refused so far.

        Raises:
          UserError: the run's folder is gone.
          OSError, tf.errors.OpError: a file could not be written.
        """
        self.check_folder()
        interval = self._interval
        if not interval.steps:
            return
        now = time.monotonic()
        seconds = now - self._start
        then, frames_then, steps_then = self._window[0]
        span = max(now - then, 1e-9)
        fps = (self._frames - frames_then) / span
        tasks = self._task_log.rows() if self._task_log else []
        row = {
            "time": time.time(),
            "seconds": self._seconds_before + seconds,
            "frames": self._frames,
            "episodes": self._episodes,
            "mean_return_100": self.mean_return,
            "mean_length_100": float(np.mean(self._lengths)) if self._lengths else float("nan"),
            "fps_10s": fps,
            "fps_run": (self._frames - self._frames_before) / max(seconds, 1e-9),
            "learner_steps_per_second": (self._steps_here - steps_then) / span,
            "policy_lag_mean": interval.lags.mean,
            "policy_lag_max": interval.lags.maximum,
            "learner_waiting": interval.waiting / max(now - interval.start, 1e-9),
            "refused_updates": refused,
            **self._scores(tasks),
        }
        row |= {name: total / interval.steps for name, total in interval.metrics.items()}
        if interval.replay_lags.count:
            row |= {"replay_lag_mean": interval.replay_lags.mean, "replay_lag_max": interval.replay_lags.maximum}
        self._interval = _Interval(now)
        left = (self._total_frames - self._frames) / max(row["fps_10s"], 1e-9)
        lags = interval.lags
        lag = f"lag {lags.mean:.1f}, max {lags.maximum}" if lags.count else "no fresh unrolls"
        _LOGGER.info(
            f"{self._frames:>11,} frames ({self._frames / self._total_frames:4.0%})  {fps:>7,.0f} frames/s  "
            f"{self._describe_return()}  {lag}  {duration(left)} left"
            + (f"  {refused} updates refused" * bool(refused))
        )
        if self._task_log and (lines := self._task_log.lines(tasks)):
            _LOGGER.info(lines)
        # Files last: a full disk makes writing fail.
        self._csv.write(row)
        if self._task_log:
            self._task_log.write(tasks, self._frames, self._tensorboard)
        self._tensorboard.write(row, self._frames)
        self._tensorboard.flush()

    def check_folder(self) -> None:
        """Raises UserError if the run's folder has been removed or replaced."""
        self._logdir.check_there()

    def _describe_return(self) -> str:
        """Formats the mean return with what tells whether it is good.

        That is the human-normalized score of a task that has references. Without, it is the change since the first 100
        episodes.
        """
        if not self._returns:
            return "no episode has ended yet"
        notes = []
        if len(self._returns) < 100:
            notes.append(f"{len(self._returns)} episode{'s' * (len(self._returns) > 1)}")
        own = None if self._task_log else suites.human_normalised(self._tasks[0], self.mean_return)
        if own is not None:
            notes.append(f"{own:.0%} human-normalized")
        elif len(self._returns) == 100 and self._first_return is not None:
            notes.append(f"{self.mean_return - self._first_return:+.2f} since the start")
        return f"return {self.mean_return:.2f}" + (f" ({', '.join(notes)})" if notes else "")

    def _scores(self, tasks: list[dict[str, Any]]) -> dict[str, float]:
        """Returns human-normalized scores, if the tasks have reference scores."""
        if self._task_log:
            return summary(tasks)
        own = suites.human_normalised(self._tasks[0], self.mean_return)
        return {} if own is None else {"human_normalised": own}

    def close(self) -> None:
        """Closes the log files."""
        self._csv.close()
        if self._task_log:
            self._task_log.close()
        self._tensorboard.close()


def duration(seconds: float) -> str:
    """Formats a duration: "2h05m", or "3m07s" below an hour."""
    seconds = int(min(max(seconds, 0), 999 * 3600))
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{seconds % 60:02d}s"

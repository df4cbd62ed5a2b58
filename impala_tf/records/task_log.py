"""What a run of several tasks reports about each of them: tasks.csv, TensorBoard's scalars, lines on the console."""

from __future__ import annotations

import collections
import textwrap
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from impala_tf import suites
from impala_tf.records.csv_file import CSVFile
from impala_tf.records.logdir import LogDir
from impala_tf.structures import Trajectory

# The console shows this many tasks with every progress line, and more of them only once in a while.
_FEW_TASKS = 8
_MANY_TASKS_SECONDS = 60.0
_CONSOLE_WIDTH = 118


class TaskLog:
    """Frames, episodes, returns and human-normalised scores by task.

    Frames are environment frames that the learner has consumed; returns are means over a task's last 100 full episodes,
    undiscounted and unclipped. Scores are fractions: 0 a random policy, 1 the human of the paper's references.
    """

    def __init__(
        self,
        logdir: LogDir,
        names: Sequence[str],
        frames_per_step: int,
        total_frames: int,
        state: dict[str, Any] | None,
    ):
        """Opens the log.

        Args:
          logdir: where it is.
          names: the run's tasks; their place is the task id in the trajectories.
          frames_per_step: environment frames per agent step.
          total_frames: consumed so far, to go on with the log from.
          state: what `state` returned for the checkpoint that the run resumes from; None for a new run.
        """
        empty = {"frames": 0, "episodes": 0, "returns": []}
        self._names, self._frames_per_step = names, frames_per_step
        self._tasks = [dict((state or {}).get(name, empty)) for name in names]
        for task in self._tasks:
            task["returns"] = collections.deque(task["returns"], maxlen=100)
        self._csv = CSVFile(logdir.tasks, keep_up_to=total_frames)
        self._said = -_MANY_TASKS_SECONDS

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {name: {**task, "returns": list(task["returns"])} for name, task in zip(self._names, self._tasks)}

    def add(self, batch: Trajectory) -> None:
        """Takes note of a time-major batch; entry 0 of each unroll has been seen before."""
        unroll_length = batch.episode_length.shape[0] - 1
        for task in batch.task_id.numpy():
            self._tasks[task]["frames"] += unroll_length * self._frames_per_step
        # By unroll, then by time: the order in which one environment's episodes ended.
        unrolls, steps = np.nonzero(batch.episode_length[1:].numpy().T > 0)
        for task, value in zip(batch.task_id.numpy()[unrolls], batch.episode_return[1:].numpy()[steps, unrolls]):
            self._tasks[task]["episodes"] += 1
            self._tasks[task]["returns"].append(float(value))

    def rows(self) -> list[dict[str, Any]]:
        """One row per task, for `lines`, `write` and `summary`; "human_normalised" is None without references."""
        rows = []
        for name, task in zip(self._names, self._tasks):
            mean = float(np.mean(task["returns"])) if task["returns"] else float("nan")
            rows.append(
                {
                    "task": name,
                    "task_frames": task["frames"],
                    "episodes": task["episodes"],
                    "mean_return_100": mean,
                    "human_normalised": suites.human_normalised(name, mean),
                }
            )
        return rows

    def lines(self, rows: Sequence[dict[str, Any]]) -> str:
        """The tasks for the console; empty where it is not time to show so many."""
        if len(self._names) > _FEW_TASKS and time.monotonic() - self._said < _MANY_TASKS_SECONDS:
            return ""
        self._said = time.monotonic()
        parts = []
        for row in rows:
            shown = f"{row['task'].rpartition('/')[2]} {row['mean_return_100']:.1f}"
            score = row["human_normalised"]
            share = "" if score is None or np.isnan(score) else f"({score:.0%})"
            parts.append(shown.replace(" ", "\u00a0") + ("\u00a0" + share if share else ""))
        text = textwrap.fill(", ".join(parts), _CONSOLE_WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 4)
        return text.replace("\u00a0", " ")

    def write(self, rows: Sequence[dict[str, Any]], frames: int, tensorboard: tf.summary.SummaryWriter) -> None:
        """Writes a row and TensorBoard points per task at `frames` of the whole run."""
        self._csv.write(*({"frames": frames, **row} for row in rows))
        with tensorboard.as_default(step=frames):
            for row in rows:
                for name, value in row.items():
                    if name != "task" and value is not None:
                        tf.summary.scalar(f"task_{name}/{row['task']}", value)

    def close(self) -> None:
        """Closes the log."""
        self._csv.close()


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Human-normalised scores over the tasks that have references; NaN until each of them ended an episode."""
    scores = [row["human_normalised"] for row in rows if row["human_normalised"] is not None]
    if not scores:
        return {}
    return {
        "human_normalised_median": float(np.median(scores)),
        "human_normalised_mean": float(np.mean(scores)),
        "human_normalised_mean_capped": float(np.mean(np.minimum(scores, 1.0))),
    }

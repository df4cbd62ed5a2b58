"""The progress of each task in a run of several tasks: tasks.csv, TensorBoard scalars and log lines."""

from __future__ import annotations

import collections
import textwrap
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from impala_tf import suites
from impala_tf.records.csv_file import CSVFile
from impala_tf.records.logdir import LogDir
from impala_tf.records.tensorboard import TensorBoard
from impala_tf.structures import Batch

# Up to this many tasks are shown with every progress line; more than that only at a longer interval.
_FEW_TASKS = 8
_MANY_TASKS_SECONDS = 60.0
_CONSOLE_WIDTH = 118


class TaskLog:
    """Tracks frames, episodes, returns and human-normalized scores by task, all of them over fresh unrolls.

    Frames are environment frames that the learner has consumed; returns are means over a task's last 100 full episodes,
    undiscounted and unclipped. Scores are fractions: 0 for a random policy, 1 for a human.
    """

    def __init__(
        self,
        logdir: LogDir,
        names: Sequence[str],
        frames_per_step: int,
        total_frames: int,
        state: dict[str, Any] | None,
    ):
        """Opens tasks.csv; a resumed run appends to it.

        Args:
          logdir: folder of the run.
          names: environment ids of the run's tasks; a task's index is its id in the trajectories.
          frames_per_step: environment frames per agent step.
          total_frames: environment frames consumed so far; later rows of tasks.csv are dropped.
          state: the result of `state` saved with the checkpoint that the run resumes from; None for a new run.
        """
        empty = {"frames": 0, "episodes": 0, "return_sum": 0.0, "returns": []}
        self._names, self._frames_per_step = names, frames_per_step
        self._tasks = [{**empty, **(state or {}).get(name, {})} for name in names]
        for task in self._tasks:
            task["returns"] = collections.deque(task["returns"], maxlen=100)
        self._csv = CSVFile(logdir.tasks, keep_up_to=total_frames)
        self._said = -_MANY_TASKS_SECONDS

    def state(self) -> dict[str, Any]:
        """Returns the counts to save with a checkpoint, by task."""
        return {name: {**task, "returns": list(task["returns"])} for name, task in zip(self._names, self._tasks)}

    def add(self, batch: Batch) -> None:
        """Records a batch's fresh unrolls; entry 0 of an unroll has been counted with the unroll before it."""
        fresh = np.asarray(batch.fresh)
        task_ids = np.asarray(batch.unrolls.task_id)[fresh]
        lengths = np.asarray(batch.unrolls.episode_length)[1:, fresh]
        returns = np.asarray(batch.unrolls.episode_return)[1:, fresh]
        for task in task_ids:
            self._tasks[task]["frames"] += len(lengths) * self._frames_per_step
        # By unroll, then by time: the order in which one environment's episodes ended.
        unrolls, steps = np.nonzero(lengths.T > 0)
        for task, value in zip(task_ids[unrolls], returns[steps, unrolls]):
            self._tasks[task]["episodes"] += 1
            self._tasks[task]["return_sum"] += float(value)
            self._tasks[task]["returns"].append(float(value))

    def rows(self) -> list[dict[str, Any]]:
        """Returns a row per task, for `lines`, `write` and `summary`; "human_normalised" is None without references."""
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
        """Formats the tasks' returns and scores for the log; "" if many tasks were shown only recently."""
        if len(self._names) > _FEW_TASKS and time.monotonic() - self._said < _MANY_TASKS_SECONDS:
            return ""
        self._said = time.monotonic()
        parts = []
        for row in rows:
            mean = row["mean_return_100"]
            shown = f"{row['task'].rpartition('/')[2]} " + ("none" if np.isnan(mean) else f"{mean:.1f}")
            score = row["human_normalised"]
            share = "" if score is None or np.isnan(score) else f"({score:.0%})"
            parts.append(shown.replace(" ", "\u00a0") + ("\u00a0" + share if share else ""))
        text = textwrap.fill(", ".join(parts), _CONSOLE_WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 4)
        return text.replace("\u00a0", " ")

    def write(self, rows: Sequence[dict[str, Any]], frames: int, tensorboard: TensorBoard) -> None:
        """Writes a row and TensorBoard scalars per task, at `frames` environment frames of the whole run."""
        self._csv.write(*({"frames": frames, **row} for row in rows))
        for row in rows:
            tensorboard.write(row, frames, task=row["task"])

    def close(self) -> None:
        """Closes tasks.csv."""
        self._csv.close()


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Returns human-normalized scores over the tasks with references; NaN until each of them has ended an episode."""
    scores = [row["human_normalised"] for row in rows if row["human_normalised"] is not None]
    if not scores:
        return {}
    return {
        "human_normalised_median": float(np.median(scores)),
        "human_normalised_mean": float(np.mean(scores)),
        "human_normalised_mean_capped": float(np.mean(np.minimum(scores, 1.0))),
    }

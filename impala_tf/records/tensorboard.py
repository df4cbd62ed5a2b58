"""What a run writes for TensorBoard: its scalars with descriptions, and its settings as text and as hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from impala_tf.records import differences
from impala_tf.records.logdir import LogDir

_LOSS = "Summed over time and batch, mean over the learner steps of the interval. "
_REPLAY_LAG = "Replayed unrolls: updates between the parameters that acted and those being updated, "
_SCORE = "Human-normalized score: 0 for a random policy, 1 for a human. "

_SCALARS = {
    "episodes": ("episode", "Full games that have ended, over all starts of the run."),
    "mean_return_100": ("episode", "Mean return of the last 100 full games, undiscounted and unclipped."),
    "mean_length_100": ("episode", "Mean length of the last 100 full games, in agent steps."),
    "seconds": ("speed", "Seconds of the learner, over all starts of the run."),
    "fps_10s": ("speed", "Environment frames per second over the last 10 seconds."),
    "fps_run": ("speed", "Environment frames per second since the last start."),
    "learner_steps_per_second": ("speed", "Learner steps per second over the last 10 seconds."),
    "learner_waiting": ("speed", "Share of time for which the learner waited for a batch."),
    "policy_lag_mean": ("policy_lag", "Updates between the acting parameters and those being updated, mean."),
    "policy_lag_max": ("policy_lag", "Updates between the acting parameters and those being updated, maximum."),
    "replay_lag_mean": ("policy_lag", _REPLAY_LAG + "mean."),
    "replay_lag_max": ("policy_lag", _REPLAY_LAG + "maximum."),
    "human_normalised": ("score", _SCORE),
    "human_normalised_median": ("score", _SCORE + "Median over the tasks."),
    "human_normalised_mean": ("score", _SCORE + "Mean over the tasks."),
    "human_normalised_mean_capped": ("score", _SCORE + "Capped at 1 for each task, mean over the tasks."),
    "refused_updates": ("optimizer", "Updates refused because their loss or gradient was not finite."),
    "gradient_norm": ("optimizer", "Global norm of the gradient before clipping."),
    "learning_rate": ("optimizer", "Learning rate, annealed over the environment frames."),
    "total_loss": ("loss", _LOSS + "Policy loss + baseline loss + entropy loss."),
    "policy_loss": ("loss", _LOSS + "Policy gradient with the advantages of --correction."),
    "baseline_loss": (
        "loss",
        _LOSS + "Squared distance of V from --correction's targets, weighted by --baseline_cost.",
    ),
    "entropy_loss": ("loss", _LOSS + "Negative entropy, weighted by --entropy_cost."),
    "entropy": ("loss", "Mean entropy of the policy, in nats."),
    "value": ("loss", "Mean value V(x), in units of the transformed reward."),
    "rho": ("loss", "Mean importance weight pi / mu, clipped at 1, whatever --correction is."),
    "rho_clipped": ("loss", "Share of importance weights above --rho_bar; only --correction=v_trace clips there."),
    "task_frames": ("task", "Environment frames of this task."),
}
"""{column of progress.csv: (its group in TensorBoard, what it is)}; columns that are missing here are losses."""


class TensorBoard:
    """Writes TensorBoard's event files of one start of a run."""

    def __init__(self, logdir: LogDir):
        """Opens a new event file in `logdir.tensorboard`."""
        self._logdir = logdir
        self._writer = tf.summary.create_file_writer(str(logdir.tensorboard))
        self._described: set[str] = set()

    def write(self, row: Mapping[str, Any], step: int, task: str | None = None) -> None:
        """Writes the values of a row as scalars at `step` environment frames; leaves out values that are None.

        The first call also writes the run's settings.

        Args:
          row: {column of progress.csv: value}, or of tasks.csv if there is a task.
          step: environment frames of the run.
          task: environment id; None for the whole run.

        Raises:
          OSError, tf.errors.OpError: they could not be written.
        """
        if not self._described and self._logdir.config.exists():
            self._write_settings(step)
        # NumPy's numbers, because TensorFlow keeps the tensors of Python's for ever.
        with self._writer.as_default(step=np.int64(step)):
            for name, value in row.items():
                if name in ("time", "frames", "task") or value is None:
                    continue
                group, description = _SCALARS.get(name, ("loss", None))
                tag = f"{group}/{name}" if task is None else f"task_{name}/{task}"
                # TensorBoard reads a description once per file; it need not be in every event.
                tf.summary.scalar(tag, np.float32(value), description=None if tag in self._described else description)
                self._described.add(tag)

    def _write_settings(self, step: int) -> None:
        """Writes the settings as text, those that are not the defaults first, and as hyperparameters.

        The HPARAMS tab puts the hyperparameters in which runs differ first. To notice them, it needs their values from
        every run, so that those at their defaults are written, too. It would take any list of hyperparameters and
        metrics (`hparams_config`) from one run for all, and no longer look at which differ.
        """
        settings = self._logdir.read_settings()
        started = self._logdir.read_started()
        versions = [f"{name} {version}" for name, version in started.pop("versions", {}).items()]
        tables = {
            "Not the defaults": differences.from_defaults(settings),
            "Last start": {**started, "versions": ", ".join(versions)},
            "All settings": settings,
        }
        text = "\n\n".join(f"### {title}\n\n{_table(values)}" for title, values in tables.items() if values)
        with self._writer.as_default(step=np.int64(step)):
            tf.summary.text("settings", text)
            hparams.hparams(differences.compared(settings))

    def flush(self) -> None:
        """Writes what is buffered to the file; raises as `write` does."""
        self._writer.flush()

    def close(self) -> None:
        """Closes the event file; raises as `write` does."""
        self._writer.close()


def _table(values: Mapping[str, Any]) -> str:
    rows = [f"| {name} | `{value}` |" for name, value in values.items() if value not in (None, "")]
    return "\n".join(["| name | value |", "|---|---|", *rows])

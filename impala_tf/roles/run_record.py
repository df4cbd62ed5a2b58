"""What the learner's process leaves behind: progress, checkpoints and SavedModels, each at its interval."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable

import tensorflow as tf

from impala_tf.config import Config
from impala_tf.environments.task_set import TaskSet
from impala_tf.errors import UserError
from impala_tf.export import spec as spec_json
from impala_tf.learning.learner import Learner
from impala_tf.processes import parent
from impala_tf.records.checkpoint import Checkpointer, reason_of
from impala_tf.records.logdir import LogDir
from impala_tf.records.progress import Progress, duration
from impala_tf.roles.exports import Exports
from impala_tf.structures import Batch

_LOGGER = logging.getLogger(__name__)


class RunRecord:
    """The record of a run. `close` it.

    Nothing is reported or saved before the first update.
    """

    def __init__(self, config: Config, tasks: TaskSet, logdir: LogDir, learner: Learner):
        """Restores the newest checkpoint into `learner` and opens the logs. If that fails, nothing is left open.

        Args:
          config: settings of the run.
          tasks: tasks of the run.
          logdir: folder of the run, prepared.
          learner: owns the training state.

        Raises:
          UserError: a checkpoint or a log has been damaged.
        """
        self._config, self._learner = config, learner
        self._spec = spec_json.as_json(tasks.spec)
        with contextlib.ExitStack() as stack:
            self._checkpointer = Checkpointer(logdir.checkpoints, config.run.checkpoints_kept, learner=learner)
            state = self._checkpointer.restore()
            frames_per_step, total_frames = tasks.spec.frames_per_step, config.run.total_frames
            self._progress = Progress(logdir, tasks.names, frames_per_step, total_frames, state)
            stack.callback(_close_log, self._progress.close)
            self._exports = Exports(config, tasks, logdir, self.frames)
            stack.callback(_close_log, self._exports.close)
            self._open = stack.pop_all()
        if state is not None:
            at = f"{self.frames:,} frames, learner step {int(learner.step_count):,}"
            _LOGGER.info("resuming %s at %s", config.run.logdir, at)
            if config.data.replay_fraction:
                _LOGGER.info("the replay is empty and fills again: checkpoints do not hold it")
        self._saved = time.monotonic()
        self._reported: float | None = None

    @property
    def frames(self) -> int:
        """Environment frames consumed so far, over all starts of the run."""
        return int(self._learner.frames)

    @property
    def begun(self) -> bool:
        """Whether the first update of this process has been made."""
        return self._reported is not None

    def add(self, batch: Batch, step_before: int, metrics: dict[str, tf.Tensor], waited: float) -> None:
        """Records an update.

        Args:
          batch: what it learned from, time-major; `structures.logged` fields are enough.
          step_before: learner step before the update.
          metrics: metrics of the update.
          waited: seconds that the learner waited for the batch.

        Raises:
          UserError: the limit of refused updates in a row is reached, or a return is not finite.
        """
        self._progress.add(batch, step_before, self.frames, metrics, waited)
        refused = int(self._learner.refused_in_a_row)
        if refused >= self._config.optimizer.max_refused_updates:
            self._report()
        check_refused(self._learner, self._config)
        if refused:
            message = "update %s refused: its loss or gradient is not finite (%d in a row)"
            _LOGGER.warning(message, f"{step_before:,}", refused)

    def keep_up(self) -> None:
        """Reports, saves and evaluates what is due. Call it after each update.

        Raises:
          UserError: the run's folder is gone.
        """
        now = time.monotonic()
        if self._reported is None:
            self._reported = now
        if now - self._reported > self._config.run.log_interval:
            self._report()
            self._reported = now
        if now - self._saved > self._config.run.checkpoint_interval:
            self._save()
        self._exports.poll()

    def save_at_end(self) -> None:
        """Reports and writes the last checkpoint.

        Raises:
          UserError: the checkpoint could not be written.
        """
        self._report()
        self._save(final=True)

    def finish(self, stop: threading.Event) -> None:
        """Reports, writes the last checkpoint and, unless `stop` is set, waits for the last SavedModel's evaluation.

        Raises:
          UserError: the checkpoint could not be written.
        """
        self.save_at_end()
        self._exports.finish(stop)

    def close(self) -> None:
        """Closes the logs."""
        self._open.close()

    def _report(self) -> None:
        """Reports progress. Logs that cannot be written do not stop the training.

        Raises:
          UserError: the run's folder is gone.
        """
        try:
            self._progress.report(int(self._learner.refused))
        except (OSError, tf.errors.OpError) as error:
            at, reason = f"{self.frames:,}", reason_of(error)
            _LOGGER.warning("The logs at %s frames are incomplete (%s). %s", at, reason, self._last_checkpoint())

    def _save(self, final: bool = False) -> None:
        """Writes a checkpoint. A failure is logged and tried again later, except that the last one must succeed.

        Before the first update there is nothing to save.

        Raises:
          UserError: the last one could not be written, or the run's folder is gone.
        """
        if not self.frames:
            return
        self._progress.check_folder()
        agent, learner_step = self._learner.agent, int(self._learner.step_count)
        sizes = [variable.shape.num_elements() for variable in agent.trainable_variables]
        facts = {"learner_step": learner_step, "parameters": sum(sizes), "spec": self._spec}  # For card and export.
        try:
            self._checkpointer.save(self.frames, {**self._progress.state(), **facts})
        except (OSError, tf.errors.OpError) as error:
            message = f"The checkpoint at {self.frames:,} frames could not be written ({reason_of(error)})."
            if final:
                last = self._last_checkpoint()
                raise UserError(f"{message} {last} Make room, then run the same command again to resume.") from None
            _LOGGER.warning("%s Training goes on. %s", message, self._last_checkpoint())
        else:
            parent.send(parent.Saved(self.frames))
            finished = self.frames >= self._config.run.total_frames
            self._exports.add(agent, self.frames, learner_step, final=finished)
        self._saved = time.monotonic()

    def _last_checkpoint(self) -> str:
        """Describes the newest checkpoint for a message about a full disk."""
        age = self._checkpointer.age
        return "There is no checkpoint." if age is None else f"The last checkpoint is {duration(age)} old."


class FollowerRecord:
    """In place of a `RunRecord` in the learners that do not lead: learner 0 writes the run's folder."""

    def __init__(self, config: Config, learner: Learner):
        """Opens nothing."""
        self._config, self._learner = config, learner
        self.begun = False

    def add(self, batch: Batch, step_before: int, metrics: dict[str, tf.Tensor], waited: float) -> None:
        """Raises UserError if the limit of refused updates in a row is reached, as in all learners at once."""
        check_refused(self._learner, self._config)

    def keep_up(self) -> None:
        """Notes that an update has been made."""
        self.begun = True

    def save_at_end(self) -> None:
        """Does nothing."""

    def finish(self, stop: threading.Event) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def check_refused(learner: Learner, config: Config) -> None:
    """Raises UserError if the limit of refused updates in a row is reached."""
    refused = int(learner.refused_in_a_row)
    if refused >= config.optimizer.max_refused_updates:
        raise UserError(
            f"{refused} updates in a row were refused because the loss or its gradient was not finite (NaN or "
            f"infinite), the last at {int(learner.frames):,} frames. The newest checkpoint is from before. Lower "
            "--learning_rate, raise --rmsprop_epsilon, or look for rewards or observations that are not finite."
        )


def _close_log(close: Callable[[], None]) -> None:
    with contextlib.suppress(OSError, tf.errors.OpError):  # `RunRecord` has logged that the disk is full.
        close()

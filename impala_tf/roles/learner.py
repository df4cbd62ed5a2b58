"""The learner's process: draws batches, updates, publishes parameters, writes checkpoints and logs."""

from __future__ import annotations

import contextlib
import logging
import pathlib
import threading
import time
from collections.abc import Callable

import tensorflow as tf

from impala_tf import tensor_leak
from impala_tf.config import Config
from impala_tf.environments.task_set import TaskSet
from impala_tf.errors import UserError
from impala_tf.export import spec as spec_json
from impala_tf.learning.learner import Learner
from impala_tf.networks.agent import make_agent
from impala_tf.processes import parent
from impala_tf.processes.timings import Timings
from impala_tf.records.checkpoint import Checkpointer, reason_of
from impala_tf.records.logdir import LogDir
from impala_tf.records.progress import Progress, duration
from impala_tf.roles import agreement
from impala_tf.roles.exports import Exports
from impala_tf.structures import Batch
from impala_tf.topology import Topology
from impala_tf.transport.learner_end import LearnerEnd
from impala_tf.transport.signatures import trajectory_signature, unroll_signature
from impala_tf.transport.variables import VariablePublisher

ACTIVITIES = ("batch", "update", "publish", "records")
"""What a learner spends its time on: waiting for a batch, the update, copying parameters, logs and checkpoints."""

_LOGGER = logging.getLogger(__name__)
_LOOK_SECONDS = 0.25  # Between two looks at whether to stop.


class Training:
    """A run's learner, from the opened log directory to the last checkpoint. Use it in a `with` statement.

    Attributes:
      agent: the network that is trained.
      learner: owns the training state and updates it.
      end: the learner's end of the transport.
    """

    def __init__(
        self,
        config: Config,
        tasks: TaskSet,
        topology: Topology,
        *,
        make_publisher: Callable = VariablePublisher,
        spans: pathlib.Path | None = None,
    ):
        """Opens the log directory, restores the newest checkpoint, starts the server and publishes the parameters.

        If that fails, nothing is left running.

        Args:
          config: settings of the run.
          tasks: tasks of the run.
          topology: topology of the run; the server listens on the port of its address, or on a free one if that is 0.
          make_publisher: as for `LearnerEnd`.
          spans: CSV file for the spans of `ACTIVITIES`; None: no file.

        Raises:
          UserError: something in the settings, the folder or its checkpoints cannot be used.
        """
        tensor_leak.stop()
        tf.config.threading.set_intra_op_parallelism_threads(topology.learner_threads)
        self._config = config
        logdir = LogDir(config.run.logdir)
        logdir.check(config)
        with contextlib.ExitStack() as stack:
            stack.callback(logdir.lock().close)
            spec = tasks.spec
            self._spec = spec_json.as_json(spec)
            self.agent = make_agent(spec, config)
            self.learner = Learner(self.agent, config, spec.frames_per_step)
            unroll = (spec, self.agent.core_state_spec, config.data.unroll_length)
            self._unroll = trajectory_signature(*unroll)
            self.end = LearnerEnd(
                config.data,
                unroll_signature(*unroll),
                self.agent.trainable_variables,
                port=int(topology.address.rpartition(":")[2] or 0),
                told=agreement.told(config, tasks, topology),
                make_publisher=make_publisher,
            )
            stack.callback(self.end.stop)
            logdir.prepare(config, topology)  # Not earlier: settings that cannot work must not claim the folder.
            self._checkpointer = Checkpointer(logdir.checkpoints, config.run.checkpoints_kept, learner=self.learner)
            state = self._checkpointer.restore()
            self._progress = Progress(logdir, tasks.names, spec.frames_per_step, config.run.total_frames, state)
            stack.callback(_close_log, self._progress.close)
            self._exports = Exports(config, tasks, logdir, self.frames)
            stack.callback(_close_log, self._exports.close)
            if state is not None:
                at = f"{self.frames:,} frames, learner step {self.step_count:,}"
                _LOGGER.info("resuming %s at %s", config.run.logdir, at)
                if config.data.replay_fraction:
                    _LOGGER.info("the replay is empty and fills again: checkpoints do not hold it")
            self.end.publish(self.step_count)  # What the actors wait for.
            self._timings = Timings(ACTIVITIES, spans, on_lap=parent.beat)
            self._open = stack.pop_all()
        self._saved = time.monotonic()
        self._reported: float | None = None

    def trace(self) -> None:
        """Builds the update's graph, which takes seconds; the actors start in the meantime."""
        self.learner.trace(self._unroll, self._config.data.batch_size)

    @property
    def frames(self) -> int:
        """Environment frames consumed so far, over all starts of the run."""
        return int(self.learner.frames)

    @property
    def step_count(self) -> int:
        """Learner steps so far, over all starts of the run."""
        return int(self.learner.step_count)

    @property
    def finished(self) -> bool:
        """Whether the run has consumed its frames."""
        return self.frames >= self._config.run.total_frames

    def run(
        self,
        stop: threading.Event,
        *,
        check: Callable[[], None] = lambda: None,
        on_update: Callable[[], None] = lambda: None,
    ) -> None:
        """Updates until the run is finished or `stop` is set; then writes a checkpoint.

        Args:
          stop: ends the run early.
          check: called several times a second; an exception that it raises ends the run.
          on_update: called after each update, when its parameters have been handed to the publisher.

        Raises:
          UserError: no unrolls came for `stall_timeout` seconds; or as for `update`, `on_update` and `finish`.
        """
        stall_timeout = self._config.launch.stall_timeout
        self.trace()
        if not self.finished:
            _LOGGER.info("learner ready at %s; waiting for the actors' first unrolls", self.end.address)
        waiting_since = time.monotonic()
        while not (self.finished or stop.is_set()):
            check()
            batch = self.next_batch(timeout=_LOOK_SECONDS)
            waited = time.monotonic() - waiting_since
            if batch is not None:
                self.update(batch, waited)
                on_update()
                waiting_since = time.monotonic()
            elif waited > stall_timeout:
                logs = LogDir(self._config.run.logdir).logs
                raise self.stalled(
                    f"No unrolls arrived for {stall_timeout:g} s (--stall_timeout). The actors' own output is in "
                    f"{logs}."
                )
        self.finish(stop)

    def next_batch(self, timeout: float) -> Batch | None:
        """Returns the next time-major batch, or None if there is none within `timeout` seconds."""
        self._timings.begin()
        batch = self.end.next_batch(timeout)
        self._timings.lap("batch")
        return batch

    def update(self, batch: Batch, waited: float) -> None:
        """Takes one learner step, publishes the new parameters, and reports and saves when that is due.

        Args:
          batch: the batch, time-major.
          waited: seconds that the learner waited for the batch.

        Raises:
          UserError: the limit of refused updates in a row is reached.
        """
        if self._reported is None:
            _LOGGER.info("first unrolls are here; compiling the learner%s", " with XLA" if self.learner.xla else "")
        start, step_before = time.monotonic(), self.step_count
        self._timings.begin()
        metrics = self.learner.step(batch)
        step = self.step_count  # Waits for the update.
        self._timings.lap("update")
        self.end.publish(step)
        self._timings.lap("publish")
        self._progress.add(batch, step_before, self.frames, metrics, waited)
        self._check_refused(step_before)
        now = time.monotonic()
        if self._reported is None:
            interval = self._config.run.log_interval
            _LOGGER.info("first update done, %.1f s later; progress every %g s", now - start, interval)
            self._reported = now
            parent.send(parent.Ready())  # From now on, there is something to save.
        if now - self._reported > self._config.run.log_interval:
            self._report()
            self._reported = now
        if now - self._saved > self._config.run.checkpoint_interval:
            self._save()
        self._exports.poll()
        self._timings.lap("records")

    def wait_until_published(self) -> None:
        """Waits until actors can pull the parameters of the last update.

        Raises:
          UserError: that takes longer than `stall_timeout`.
        """
        stall_timeout = self._config.launch.stall_timeout
        deadline = time.monotonic() + stall_timeout
        while not self.end.wait_until_published(_LOOK_SECONDS):
            parent.beat()
            if time.monotonic() < deadline:
                continue
            raise self.stalled(f"The parameters were not published within {stall_timeout:g} s (--stall_timeout).")

    def stalled(self, message: str) -> UserError:
        """Saves what has been learned, if anything, and returns the error to raise: others fail, not the learner.

        Raises:
          UserError: the checkpoint could not be written.
        """
        if self._reported is not None:
            self._report()
            self._save(final=True)
        return UserError(message)

    def finish(self, stop: threading.Event) -> None:
        """Reports, writes the last checkpoint and, unless `stop` is set, waits for the last SavedModel's evaluation.

        Raises:
          UserError: the checkpoint could not be written.
        """
        self._report()
        self._save(final=True)
        self._exports.finish(stop)

    def _check_refused(self, step: int) -> None:
        refused = int(self.learner.refused_in_a_row)
        if refused >= self._config.optimizer.max_refused_updates:
            self._report()
            raise UserError(
                f"{refused} updates in a row were refused because the loss or its gradient was not finite (NaN or "
                f"infinite), the last at {self.frames:,} frames. The newest checkpoint is from before. Lower "
                "--learning_rate, raise --rmsprop_epsilon, or look for rewards or observations that are not finite."
            )
        if refused:
            _LOGGER.warning("update %s refused: its loss or gradient is not finite (%d in a row)", f"{step:,}", refused)

    def _report(self) -> None:
        """Reports progress. Logs that cannot be written do not stop the training.

        Raises:
          UserError: the run's folder is gone.
        """
        try:
            self._progress.report(int(self.learner.refused))
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
        sizes = [variable.shape.num_elements() for variable in self.agent.trainable_variables]
        facts = {"learner_step": self.step_count, "parameters": sum(sizes), "spec": self._spec}  # For card and export.
        try:
            self._checkpointer.save(self.frames, {**self._progress.state(), **facts})
        except (OSError, tf.errors.OpError) as error:
            message = f"The checkpoint at {self.frames:,} frames could not be written ({reason_of(error)})."
            if final:
                last = self._last_checkpoint()
                raise UserError(f"{message} {last} Make room, then run the same command again to resume.") from None
            _LOGGER.warning("%s Training goes on. %s", message, self._last_checkpoint())
        else:
            self._exports.add(self.agent, self.frames, self.step_count, final=self.finished)
        self._saved = time.monotonic()

    def _last_checkpoint(self) -> str:
        """Describes the newest checkpoint for a message about a full disk."""
        age = self._checkpointer.age
        return "There is no checkpoint." if age is None else f"The last checkpoint is {duration(age)} old."

    def __enter__(self) -> Training:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()


def _close_log(close: Callable[[], None]) -> None:
    with contextlib.suppress(OSError, tf.errors.OpError):  # `Training` has logged that the disk is full.
        close()


def run(
    config: Config,
    tasks: TaskSet,
    topology: Topology,
    stop: threading.Event,
    *,
    on_update: Callable[[Training, threading.Event], None] = lambda training, stop: None,
    spans: pathlib.Path | None = None,
) -> None:
    """Learns from the actors' unrolls until the run is finished or `stop` is set.

    Args:
      config: settings of the run.
      tasks: tasks of the run.
      topology: topology of the run.
      stop: ends the run early, with a checkpoint.
      on_update: called after each update with the learner and `stop`.
      spans: CSV file for the spans of `ACTIVITIES`; None: no file.

    Raises:
      UserError: as for `Training`, `Training.run` and `on_update`.
    """
    with Training(config, tasks, topology, spans=spans) as training:
        training.run(stop, on_update=lambda: on_update(training, stop))
        if config.launch.role == "learner" and training.finished:
            training.end.tell_finished()  # Elsewhere, actors end with the run's command.

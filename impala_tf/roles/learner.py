"""The learner's process: draws batches, updates, publishes parameters, writes checkpoints and logs."""

from __future__ import annotations

import contextlib
import logging
import pathlib
import threading
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from impala_tf import tensor_leak
from impala_tf.config import FIXED, Config, to_values
from impala_tf.environments.task_set import TaskSet
from impala_tf.errors import LearnerLost, UserError
from impala_tf.learning.group import ALONE, ConnectedGroup, Group
from impala_tf.learning.learner import Learner
from impala_tf.networks.agent import make_agent
from impala_tf.processes import parent
from impala_tf.processes.timings import Timings
from impala_tf.records.logdir import LogDir
from impala_tf.roles import together
from impala_tf.roles.intake import MakeIntake, UnrollIntake
from impala_tf.roles.run_record import FollowerRecord, RunRecord
from impala_tf.structures import Batch
from impala_tf.topology import Topology
from impala_tf.transport.variables import VariablePublisher

ACTIVITIES = ("batch", "update", "publish", "records")
"""What a learner spends its time on: waiting for a batch, the update, copying parameters, logs and checkpoints."""

_LOGGER = logging.getLogger(__name__)
_SIGNAL_SECONDS = 2.0
_MUST_BE_EQUAL = FIXED | {"total_frames", "max_refused_updates", "stall_timeout", "xla"}  # For several learners.
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
        make_intake: MakeIntake = UnrollIntake,
        make_publisher: Callable = VariablePublisher,
        group: Group = ALONE,
        spans: pathlib.Path | None = None,
    ):
        """Opens the log directory, restores the newest checkpoint, starts the server and publishes the parameters.

        Only learner 0 opens the log directory; the others take its variables. If that fails, nothing is left running.

        Args:
          config: settings of the run.
          tasks: tasks of the run.
          topology: topology of the run; the server listens on the port of its address, or on a free one if that is 0.
          make_intake: makes what the learner takes in.
          make_publisher: as for `ServingEnd`.
          group: the learners of the run.
          spans: CSV file for the spans of `ACTIVITIES`; None: no file.

        Raises:
          UserError: something in the settings, the folder or its checkpoints cannot be used.
        """
        tensor_leak.stop()
        tf.config.threading.set_intra_op_parallelism_threads(topology.learner_threads)
        self._config = config
        logdir, leads = LogDir(config.run.logdir), group.rank == 0
        with contextlib.ExitStack() as stack:
            if leads:
                logdir.check(config)
                stack.callback(logdir.lock().close)
            self.agent = make_agent(tasks.spec, config)
            self.learner = Learner(self.agent, config, tasks.spec.frames_per_step, group)
            self._intake = make_intake(config, tasks, topology, self.learner, make_publisher=make_publisher)
            self.end = self._intake.end
            stack.callback(self.end.stop)
            self._record: RunRecord | FollowerRecord
            if leads:
                logdir.prepare(config, topology)  # Not earlier: settings that cannot work must not claim the folder.
                self._record = RunRecord(config, tasks, logdir, self.learner)
            else:
                self._record = FollowerRecord(config, self.learner)
            stack.callback(self._record.close)
            group.broadcast(self.learner.variables)
            self.end.publish(self.step_count)  # What the actors wait for.
            self._timings = Timings(ACTIVITIES, spans, on_lap=parent.beat)
            self._open = stack.pop_all()

    def trace(self) -> None:
        """Builds the update's graph, which takes seconds; the actors start in the meantime."""
        self._intake.trace()

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
          UserError: nothing came for `stall_timeout` seconds; another learner was asked to end;
            or as for `update`, `on_update` and `finish`.
          LearnerLost: another learner has died or cannot be reached; what has been learned is saved.
        """
        group, asked = self.learner.group, []
        self.trace()
        if not self.finished:
            several = f" {group.rank} of {group.size}" if group.size > 1 else ""
            ready = "learner%s ready at %s; waiting for the actors' first %s"
            _LOGGER.info(ready, several, self.end.address, self._intake.what)
        try:
            if group.size == 1:
                self._run_alone(stop, check, on_update)
            else:
                asked = together.run(self, self._config, stop, check, on_update)
        except LearnerLost:
            if self._record.begun:
                self._record.save_at_end()
            raise
        if asked:
            self._record.save_at_end()
            if not stop.wait(_SIGNAL_SECONDS):  # The launcher's signals do not reach all of them at once.
                raise UserError(
                    f"Learner {asked[0]} was asked to end, and learners only update together: all have ended, and "
                    "learner 0 has saved. Start all of them again to resume."
                )
        else:
            self.finish(stop)

    def _run_alone(self, stop: threading.Event, check: Callable[[], None], on_update: Callable[[], None]) -> None:
        waiting_since = time.monotonic()
        while not (self.finished or stop.is_set()):
            check()
            batch = self.next_batch(timeout=_LOOK_SECONDS)
            waited = time.monotonic() - waiting_since
            if batch is not None:
                self.update(batch, waited, on_update)
                waiting_since = time.monotonic()
            elif waited > self._config.launch.stall_timeout:
                raise self.nothing_arrived()

    def nothing_arrived(self, where: str = "") -> UserError:
        """Saves what has been learned and returns the error for a learner that got nothing for `stall_timeout`."""
        timeout, logs = self._config.launch.stall_timeout, LogDir(self._config.run.logdir).logs
        return self.stalled(
            f"No {self._intake.what} arrived{where} for {timeout:g} s (--stall_timeout). The actors' own output is in "
            f"{logs}."
        )

    def next_batch(self, timeout: float) -> Any | None:
        """Returns what the next update takes, or None if there is nothing within `timeout` seconds."""
        self._timings.begin()
        batch = self._intake.next(timeout)
        self._timings.lap("batch")
        return batch

    def update(
        self,
        batch: Any,
        waited: float,
        on_update: Callable[[], None] = lambda: None,
        counted: Batch | None = None,
    ) -> None:
        """Takes one learner step, publishes the new parameters, and reports and saves when that is due.

        Args:
          batch: what `next_batch` has returned.
          waited: seconds that the learner waited for it.
          on_update: called when the parameters have been handed to the publisher; what waits for them need not wait
            for logs and checkpoints, too.
          counted: the unrolls of all learners, for the logs; None: those of this one.

        Raises:
          UserError: as for `RunRecord.add` and `on_update`.
        """
        first = not self._record.begun
        if first:
            xla = " with XLA" if self.learner.xla else ""
            _LOGGER.info("first %s are here; compiling the learner%s", self._intake.what, xla)
        start, step_before = time.monotonic(), self.step_count
        self._timings.begin()
        with self.learner.group.watched():
            own, metrics = self._intake.learn(batch)
            step = self.step_count  # Waits for the update.
        self._timings.lap("update")
        self.end.publish(step)
        self._timings.lap("publish")
        on_update()
        self._timings.begin()
        self._record.add(counted or own, step_before, metrics, waited)
        if first:
            seconds, interval = time.monotonic() - start, self._config.run.log_interval
            _LOGGER.info("first update done, %.1f s later; progress every %g s", seconds, interval)
            parent.send(parent.Ready())  # From now on, there is something to save.
        self._record.keep_up()
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
        if self._record.begun:
            self._record.save_at_end()
        return UserError(message)

    def finish(self, stop: threading.Event) -> None:
        """Reports, writes the last checkpoint and, unless `stop` is set, waits for the last SavedModel's evaluation.

        Raises:
          UserError: the checkpoint could not be written.
        """
        self._record.finish(stop)

    def __enter__(self) -> Training:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()


def run(
    config: Config,
    tasks: TaskSet,
    topology: Topology,
    stop: threading.Event,
    *,
    rank: int = 0,
    make_intake: MakeIntake = UnrollIntake,
    on_update: Callable[[Training, threading.Event], None] = lambda training, stop: None,
    spans: pathlib.Path | None = None,
) -> None:
    """Learns from what the actors send until the run is finished or `stop` is set.

    Args:
      config: settings of the run.
      tasks: tasks of the run.
      topology: topology of the run.
      stop: ends the run early, with a checkpoint.
      rank: number of this learner in `topology.learners`; learner 0 writes the run's folder.
      make_intake: makes what the learner takes in.
      on_update: called after each update with the learner and `stop`.
      spans: CSV file for the spans of `ACTIVITIES`; None: no file.

    Raises:
      UserError: as for `Training`, `Training.run` and `on_update`.
      LearnerLost: another learner has died or cannot be reached.
    """
    group = ALONE
    if len(topology.learners) > 1:
        try:
            group = _join(config, topology, rank, stop)
        except UserError:
            if stop.is_set():  # During the wait for the others.
                return
            raise
    with Training(config, tasks, topology, make_intake=make_intake, group=group, spans=spans) as training:
        training.run(stop, on_update=lambda: on_update(training, stop))
        if config.launch.role == "learner" and training.finished:
            training.end.tell_finished()  # Elsewhere, actors end with the run's command.


def _join(config: Config, topology: Topology, rank: int, stop: threading.Event) -> Group:
    """Waits for the other learners; must come before the process makes its first tensor."""
    tf.config.threading.set_intra_op_parallelism_threads(topology.learner_threads)
    if len(gpus := tf.config.list_physical_devices("GPU")) > 1:  # Each has its own.
        tf.config.set_visible_devices(gpus[rank % len(gpus)], "GPU")
    addresses = [learner.exchange for learner in topology.learners]
    settings = {name: value for name, value in to_values(config).items() if name in _MUST_BE_EQUAL}
    return ConnectedGroup(addresses, rank, config.launch.connect_timeout, settings, parent.beat, stop)

"""The learner's process: server, data, updates, parameters, checkpoints and logs."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from impala_tf.suites import tasks
from impala_tf.config import Config
from impala_tf.acting.dynamic_batching import DynamicBatching, LocalVariables
from impala_tf.environments.remote.mailbox import PolicyMailbox
from impala_tf.errors import UserError
from impala_tf.learning.learner import Learner
from impala_tf.networks.agent import Agent, make_agent
from impala_tf import topology as layout
from impala_tf.records.checkpoint import Checkpointer
from impala_tf.roles.exports import Exports
from impala_tf.records.logdir import LogDir
from impala_tf.records.progress import Progress
from impala_tf.structures import EnvironmentSpec
from impala_tf.transport import VARIABLES, server
from impala_tf.transport.dataset import BatchQueue, make_dataset
from impala_tf.transport.signatures import trajectory_signature, unroll_signature, variables_signature
from impala_tf.transport.variables import VariablePublisher
from impala_tf.transport.writer import UnrollWriter


class Training:
    """A run's learner, from the opened log directory to the last checkpoint. Use it in a `with` statement."""

    def __init__(self, config: Config, say: Callable[[str], None], mailbox: PolicyMailbox | None = None):
        """Opens the log directory, starts the server, restores the newest checkpoint and publishes its parameters.

        Args:
          config: of the run.
          say: prints a line on the console.
          mailbox: to environment processes, to infer for them; None where actors infer for themselves.

        Raises:
          UserError: for anything in the settings, the folder or its checkpoints that cannot be used.
        """
        tf.config.threading.set_intra_op_parallelism_threads(layout.learner_threads(config))
        self._config, self._say = config, say
        logdir = LogDir(config.run.logdir)
        logdir.check(config)
        self._lock = logdir.lock()
        reverb_config = server.load_config(config.data.reverb_config)
        server.set_queue_size(reverb_config, config.data.queue_size, config.data.batch_size)

        spec = layout.environment_spec(config)
        self.agent = make_agent(spec, config)
        self.learner = Learner(self.agent, config, spec.frames_per_step)
        logdir.prepare(config)  # Not before: settings that cannot work must not claim the folder.
        self._checkpointer = Checkpointer(logdir.checkpoints, config.run.checkpoints_kept, learner=self.learner)
        state = self._checkpointer.restore(say)
        names = tasks.names(config.environment.env)
        self._progress = Progress(logdir, names, spec.frames_per_step, config.run.total_frames, state, say)
        self._exports = Exports(config, logdir, spec, self.frames, say)
        if state is not None:
            say(f"resuming {config.run.logdir} at {self.frames:,} frames, learner step {self.step_count:,}")

        trajectory = (spec, self.agent.core_state_spec, config.data.unroll_length)
        signature = unroll_signature(*trajectory)
        signatures = {VARIABLES: variables_signature(self.agent.trainable_variables)}
        signatures.update({t.table_name: signature for t in reverb_config.tables if t.table_name != VARIABLES})
        self._server = server.Server(reverb_config, signatures, config.run.port)
        self.address = self._server.address
        self._publisher: VariablePublisher | LocalVariables
        self._inference: DynamicBatching | None = None
        if mailbox is None:
            self._publisher = VariablePublisher(self.address, self.agent.trainable_variables)
        else:
            policy = make_agent(spec, config)
            self._publisher = LocalVariables(self.agent.trainable_variables, policy.trainable_variables)
            self._inference = self._make_inference(mailbox, policy, self._publisher, spec)
        self._publisher.publish(self.step_count)
        if self._inference:
            self._inference.start()
        # Tracing takes seconds, which the actors need to start anyway.
        self.learner.trace(trajectory_signature(*trajectory), config.data.batch_size)
        self._batches = BatchQueue(make_dataset(self.address, signature, config.data.batch_size), config.data.prefetch)
        self._saved = time.monotonic()
        self._reported: float | None = None

    def _make_inference(
        self, mailbox: PolicyMailbox, policy: Agent, variables: LocalVariables, spec: EnvironmentSpec
    ) -> DynamicBatching:
        config = self._config
        return DynamicBatching(
            mailbox,
            policy,
            UnrollWriter(self.address, spec.frame_stack),
            variables.refresh,
            config.data.unroll_length,
            task_ids=[layout.task_ids(config, worker) for worker in range(mailbox.num_workers)],
            seed=int(np.random.SeedSequence([config.run.seed, self.step_count]).generate_state(1)[0]),
            say=lambda message: print(message, file=sys.stderr, flush=True),
            log_interval=config.run.log_interval,
        )

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

    def run(self, stop: threading.Event) -> None:
        """Updates until the run is finished or `stop` is set; then writes a checkpoint.

        Raises:
          UserError: no unrolls came for `stall_timeout` seconds, or too many updates in a row were refused.
        """
        config = self._config.run
        if not self.finished:
            self._say(f"learner ready at {self.address}; waiting for the actors' first unrolls")
        waiting_since = time.monotonic()
        while not (self.finished or stop.is_set()):
            if self._inference:
                self._inference.check()
            batch = self.next_batch(timeout=0.25)
            waited = time.monotonic() - waiting_since
            if batch is not None:
                self.update(batch, waited)
                waiting_since = time.monotonic()
            elif waited > config.stall_timeout:
                raise UserError(
                    f"No unrolls arrived for {config.stall_timeout:g} s. The actors' own output is in "
                    f"{LogDir(config.logdir).logs}."
                )
        self.finish(stop)

    def next_batch(self, timeout: float):
        """The next time-major batch, or None if there is none within `timeout` seconds."""
        return self._batches.get(timeout)

    def update(self, batch, waited: float) -> None:
        """One learner step on a time-major batch that was waited for `waited` seconds.

        Publishes the new parameters, and reports and saves when it is time to.

        Raises:
          UserError: the limit of refused updates in a row is reached.
        """
        first = self._reported is None
        if first:
            self._say("first unrolls are here; compiling the learner" + (" with XLA" if self.learner.xla else ""))
        start, step_before = time.monotonic(), self.step_count
        metrics = self.learner.step(batch)
        self._publisher.publish(self.step_count)
        self._progress.add(batch, step_before, self.frames, metrics, waited)
        self._check_refused(step_before)
        now = time.monotonic()
        if self._reported is None:
            self._say(
                f"first update done, {now - start:.1f} s later; progress every {self._config.run.log_interval:g} s"
            )
            self._reported = now
        if now - self._reported > self._config.run.log_interval:
            self._report()
            self._reported = now
        if now - self._saved > self._config.run.checkpoint_interval:
            self._save()
        self._exports.poll()

    def finish(self, stop: threading.Event) -> None:
        """Reports, writes the last checkpoint and, unless `stop` is set, has the last SavedModel evaluated.

        Raises:
          UserError: it could not be written.
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
            self._say(f"update {step:,} refused: its loss or gradient is not finite ({refused} in a row)")

    def _report(self) -> None:
        """Reports progress. Logs that cannot be written do not stop the training."""
        try:
            self._progress.report(int(self.learner.refused))
        except (OSError, tf.errors.OpError) as error:
            self._say(f"Progress at {self.frames:,} frames could not be logged ({error}). Is the disk full?")

    def _save(self, final: bool = False) -> None:
        """Writes a checkpoint. One that fails in mid-run is reported and tried again; the last one must succeed."""
        sizes = [variable.shape.num_elements() for variable in self.agent.trainable_variables]
        facts = {"learner_step": self.step_count, "parameters": sum(sizes)}  # For the model card.
        try:
            self._checkpointer.save(self.frames, {**self._progress.state(), **facts})
        except (OSError, tf.errors.OpError) as error:
            message = f"The checkpoint at {self.frames:,} frames could not be written ({error}). Is the disk full?"
            if final:
                raise UserError(message + " Earlier checkpoints are untouched.") from None
            self._say(message + " Training goes on; the next attempt follows.")
        else:
            self._exports.add(self.agent, self.frames, self.step_count, final=self.finished)
        self._saved = time.monotonic()

    def __enter__(self) -> Training:
        return self

    def __exit__(self, *_: object) -> None:
        if self._inference:
            self._inference.stop(timeout=2.0)
        self._batches.stop()
        self._publisher.stop()
        with contextlib.suppress(OSError, tf.errors.OpError):  # What cannot be written has been reported.
            self._progress.close()
        with contextlib.suppress(OSError, tf.errors.OpError):
            self._exports.close()
        self._server.stop()
        self._lock.close()


def run(
    config: Config, stop: threading.Event, say: Callable[[str], None], mailbox: PolicyMailbox | None = None
) -> None:
    """Learns from what actors elsewhere send until the run is finished or `stop` is set.

    With a mailbox, it acts itself, in the environments of other processes.

    Raises:
      UserError: as `Training` and `Training.run`.
    """
    with Training(config, say, mailbox) as training:
        training.run(stop)

"""Dynamic batching (IMPALA, Table 1): the policy runs in one batch for whichever environments are waiting."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import tree

from impala_tf.acting.policy import Policy
from impala_tf.acting.unrolls import Unrolls
from impala_tf.acting.worker_unrolls import PendingAction, WorkerUnrolls, concatenate, last_actions
from impala_tf.environments.remote.mailbox import Mailbox
from impala_tf.networks.agent import Agent
from impala_tf.processes.parent import Spent
from impala_tf.processes.timings import Timings, shares
from impala_tf.structures import Trajectory, agent_input

ACTIVITIES = ("environment", "variables", "inference", "writer", "queue")

_LOGGER = logging.getLogger(__name__)
_WAIT_SECONDS = 0.2
# Acting pauses while more unrolls than this are waiting for room in a full queue; all of them are policy lag.
_MAX_UNCONFIRMED = 64


class Writer(Protocol):
    """Takes finished unrolls; implemented by `impala_tf.transport.writer.UnrollWriter`."""

    def write(self, unroll: Trajectory) -> None:
        """Takes one unroll, [T + 1, ...] arrays."""

    def flush(self, timeout: float, unconfirmed: int = 0) -> bool:
        """Waits until all but `unconfirmed` unrolls have been taken; False after `timeout` seconds."""


class DynamicBatching:
    """Acts in the environments of all workers and collects their unrolls.

    Call `run`, or `start` and `stop` to do it in a thread. Whenever the policy is free, it runs for all workers whose
    environments have answered, so no worker waits for another. Parameters may change in the middle of an unroll; each
    entry records the learner step of the parameters that acted.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        agent: Agent,
        writer: Writer,
        refresh: Callable[[], int],
        unroll_length: int,
        task_ids: Sequence[Any],
        seed: int,
        timings: Timings,
        report: Callable[[Spent], None],
        log_interval: float,
    ):
        """Allocates the unrolls.

        Args:
          mailbox: connects to the workers.
          agent: the agent whose variables `refresh` overwrites.
          writer: takes the finished unrolls.
          refresh: updates the agent's variables and returns the learner step that made them; called before every
            policy step.
          unroll_length: T, in agent steps.
          task_ids: for each worker, the tasks of its environments: int32 [B], or one int for all.
          seed: seed of the actions.
          timings: must have `ACTIVITIES`.
          report: called every `log_interval` seconds with the time spent so far.
          log_interval: seconds.
        """
        self._mailbox, self._writer, self._refresh = mailbox, writer, refresh
        self._timings, self._report, self._log_interval = timings, report, log_interval
        self._num_envs = mailbox.num_envs
        # As when all environments are stepped together: one unroll of each.
        self._unconfirmed = min(mailbox.num_workers * mailbox.num_envs, _MAX_UNCONFIRMED)
        self._policy = Policy(agent, seed)
        initial = tree.map_structure(np.asarray, agent.initial_state(self._num_envs))
        spec, core_state = mailbox.environment, agent.core_state_spec
        self._workers = [
            WorkerUnrolls(Unrolls(spec, core_state, self._num_envs, unroll_length, tasks), initial)
            for tasks in task_ids
        ]
        self._policy_steps = self._worker_steps = 0
        self._reported = time.monotonic()
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run_and_keep_error, name="dynamic-batching", daemon=True)

    def start(self) -> None:
        """Starts acting in a thread."""
        self._thread.start()

    def check(self) -> None:
        """Raises the error that ended the thread, if any."""
        if self._error is not None:
            raise self._error

    def stop(self, timeout: float) -> None:
        """Ends `run` and its thread; waits for the thread at most `timeout` seconds."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def run(self, ready: Callable[[], None] | None = None) -> None:
        """Acts until `stop` is called.

        Args:
          ready: called once the first unrolls have been written.

        Raises:
          UserError: the policy's logits are not finite; or as for `Mailbox.take`.
        """
        self._mailbox.open()
        self._reported = time.monotonic()
        while not self._stop.is_set():
            wrote = self._serve()
            if wrote and ready is not None:
                ready()
                ready = None
            self._report_if_due()

    def _report_if_due(self) -> None:
        if time.monotonic() - self._reported <= self._log_interval:
            return
        self._reported = time.monotonic()
        batch = self._num_envs * self._worker_steps / max(self._policy_steps, 1)
        spent = self._timings.spent
        self._report(spent)
        _LOGGER.info("%.1f environments a batch: %s", batch, shares(spent))

    def _run_and_keep_error(self) -> None:
        try:
            self.run()
        except Exception as error:  # Raised again in the thread that calls `check`.
            self._error = error

    def _serve(self) -> bool:
        """Takes one policy step for all waiting workers; returns whether an unroll was written."""
        lap = self._timings.lap
        self._timings.begin()
        waiting = self._mailbox.take(_WAIT_SECONDS)
        lap("environment")
        if not waiting:
            return False
        learner_step = self._refresh()
        lap("variables")
        for number, start, _ in waiting:
            if start != self._workers[number].start:
                self._workers[number].restart(start)
        workers, outputs = [self._workers[number] for number, _, _ in waiting], [output for _, _, output in waiting]
        before = [worker.core_state for worker in workers]
        inputs = agent_input(concatenate(outputs), last_actions(workers, self._num_envs))
        action, logits, state = self._policy(inputs, concatenate(before))
        state = tree.map_structure(np.asarray, state)
        rows = [slice(i * self._num_envs, (i + 1) * self._num_envs) for i in range(len(workers))]
        for (number, start, _), its in zip(waiting, rows):
            self._mailbox.answer(number, start, action[its])
        self._policy_steps += 1
        self._worker_steps += len(workers)
        lap("inference")
        # The environments step while the rest is done.
        wrote = False
        for worker, output, core_state, its in zip(workers, outputs, before, rows):
            worker.record(output)
            worker.pending = PendingAction(action[its], logits[its], learner_step)
            worker.core_state = tree.map_structure(lambda x: x[its], state)  # noqa: B023
            if worker.unrolls.finished:
                for unroll in worker.unrolls.take(core_state):
                    self._writer.write(unroll)
                    wrote = True
        lap("writer")
        while not self._writer.flush(_WAIT_SECONDS, unconfirmed=self._unconfirmed) and not self._stop.is_set():
            lap("queue")  # Back-pressure: the queue is full.
            self._report_if_due()
        lap("queue")
        return wrote

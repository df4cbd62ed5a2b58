"""Steps the environments of all workers as one batch: every step waits for the slowest."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import tree

from impala_tf.environments.base import BatchedEnvironment, EnvironmentFailed, empty_output, mark_failed
from impala_tf.environments.remote.mailbox import Mailbox
from impala_tf.processes import parent
from impala_tf.structures import EnvironmentOutput

_WAIT_SECONDS = 0.2


class Lockstep(BatchedEnvironment):
    """N workers with B environments each, stepped together as N * B environments.

    `reset` starts the workers and may be called only once. The others do not wait for a worker that is down: its
    entries are marked by an `episode_length` of -1, as in `EnvironmentOutput`, until it answers again.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        deadline: float,
        close: Callable[[], None] = lambda: None,
        beat: Callable[[], None] = parent.beat,
    ):
        """
        Args:
          mailbox: of the workers.
          deadline: seconds in which all workers must have answered; ignored if the mailbox watches them itself.
          close: called by `close`; ends the workers, if they belong to this environment.
          beat: called while a step is waited for; may raise to end the wait.
        """
        self.spec, self.num_envs = mailbox.environment, mailbox.num_workers * mailbox.num_envs
        self._mailbox, self._deadline, self._close, self._beat = mailbox, deadline, close, beat
        self._starts = [0] * mailbox.num_workers
        self._absent: set[int] = set()  # Workers that have not answered the last actions.
        self._is_open = False

    def reset(self) -> EnvironmentOutput:
        if self._is_open:
            raise RuntimeError("a Lockstep environment can be reset only once")
        self._is_open = True
        self._mailbox.open()
        return self._receive_all(first=True)

    def send(self, actions: np.ndarray) -> None:
        actions = self._check(actions)
        size = self._mailbox.num_envs
        for worker, start in enumerate(self._starts):
            if worker in self._absent:
                continue
            self._mailbox.answer(worker, start, actions[worker * size : (worker + 1) * size])

    def receive(self) -> EnvironmentOutput:
        return self._receive_all(first=False)

    def close(self) -> None:
        self._close()

    def _receive_all(self, first: bool) -> EnvironmentOutput:
        """Waits until every worker has answered or is down.

        Raises:
          UserError, EnvironmentFailed: as `Mailbox.take`; or a worker did not answer in time.
        """
        workers = range(self._mailbox.num_workers)
        outputs: dict[int, EnvironmentOutput] = {}
        end = math.inf if self._mailbox.watched else time.monotonic() + self._deadline
        while missing := set(workers) - outputs.keys() - self._mailbox.down:
            if time.monotonic() > end:
                raise EnvironmentFailed(f"environment worker {min(missing)} did not answer within {self._deadline:g} s")
            (parent.beat if first else self._beat)()  # This wait has a deadline of its own.
            self._take(outputs, first, _WAIT_SECONDS)
        if len(outputs) < len(workers):  # Those that are down may be back; only if all are is there time to wait.
            self._take(outputs, first, 0.0 if outputs else _WAIT_SECONDS)
        self._absent = set(workers) - outputs.keys()
        failed = mark_failed(empty_output(self.spec, self._mailbox.num_envs)) if self._absent else None
        in_order = [outputs.get(worker, failed) for worker in workers]
        return tree.map_structure(lambda *arrays: np.concatenate(arrays), *in_order)

    def _take(self, outputs: dict[int, EnvironmentOutput], first: bool, timeout: float) -> None:
        """Adds the outputs that have arrived; marks the first one after a restart, which answers no actions."""
        for worker, start, output in self._mailbox.take(timeout):
            restarted = start != self._starts[worker] and not first
            outputs[worker] = mark_failed(output) if restarted else output
            self._starts[worker] = start

"""The environments of all workers as one batch: every step waits for the slowest."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tree

from impala_tf.environments.base import BatchedEnvironment, EnvironmentFailed
from impala_tf.environments.remote.mailbox import Mailbox
from impala_tf.structures import EnvironmentOutput

_WAIT_SECONDS = 0.2


class Lockstep(BatchedEnvironment):
    """N workers of B environments each, stepped together as N * B environments.

    Where a worker was restarted in the middle of a step, the entries of its environments are marked by an
    `episode_length` of -1, as `EnvironmentOutput` says.
    """

    def __init__(self, mailbox: Mailbox, deadline: float, close: Callable[[], None] = lambda: None):
        """
        Args:
          mailbox: to the workers.
          deadline: seconds in which all workers must answer, restarts included.
          close: ends the workers, where they belong to this environment.
        """
        self.spec, self.num_envs = mailbox.environment, mailbox.num_workers * mailbox.num_envs
        self._mailbox, self._deadline, self._close = mailbox, deadline, close
        self._starts = [0] * mailbox.num_workers
        self._is_open = False

    def reset(self) -> EnvironmentOutput:
        """Starts the workers and waits for their first observations. May be called once."""
        if self._is_open:
            raise ValueError("a lockstep environment can be reset only once")
        self._mailbox.open()
        self._is_open = True
        return self._join(self._receive_all(first=True))

    def send(self, actions: np.ndarray) -> None:
        actions = self._check(actions)
        size = self._mailbox.num_envs
        for worker, start in enumerate(self._starts):
            self._mailbox.answer(worker, start, actions[worker * size : (worker + 1) * size])

    def receive(self) -> EnvironmentOutput:
        return self._join(self._receive_all(first=False))

    def close(self) -> None:
        self._close()

    def _receive_all(self, first: bool) -> dict[int, EnvironmentOutput]:
        """{worker: its output}.

        Raises:
          UserError, EnvironmentFailed: as `Mailbox.take`; or a worker did not answer in time.
        """
        outputs: dict[int, EnvironmentOutput] = {}
        end = time.monotonic() + self._deadline
        while len(outputs) < self._mailbox.num_workers:
            for worker, start, output in self._mailbox.take(_WAIT_SECONDS):
                if start != self._starts[worker] and not first:
                    output = _restarted(output)
                self._starts[worker] = start
                outputs[worker] = output
            if time.monotonic() > end:
                missing = sorted(set(range(self._mailbox.num_workers)) - outputs.keys())
                raise EnvironmentFailed(f"worker {missing[0]} did not answer within {self._deadline:g} s")
        return outputs

    def _join(self, outputs: dict[int, EnvironmentOutput]) -> EnvironmentOutput:
        in_order: list[Any] = [outputs[worker] for worker in range(self._mailbox.num_workers)]
        return tree.map_structure(lambda *column: np.concatenate(column), *in_order)


def _restarted(output: EnvironmentOutput) -> EnvironmentOutput:
    """Marks the first output of a restarted worker, which is no answer to the last actions."""
    return output._replace(
        truncated=np.ones_like(output.truncated), episode_length=np.full_like(output.episode_length, -1)
    )

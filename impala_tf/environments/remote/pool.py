"""An actor's environments, each in a process of its own: started, watched, and started again one by one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from impala_tf import environments
from impala_tf.processes.restarts import Backoff
from impala_tf.environments.remote import worker
from impala_tf.environments.remote.mailbox import PolicyMailbox, WorkerMailbox
from impala_tf.environments.base import EnvironmentFailed
from impala_tf.processes.child import Hosted
from impala_tf.errors import UserError
from impala_tf.structures import EnvironmentOutput, EnvironmentSpec


class WorkerPool:
    """A mailbox that also sees to its workers. Each has one environment.

    One that dies, raises or does not answer in time is named and started again after 0.5, 1, 2, ... 30 s, and the
    others go on.

    Attributes:
      environment: spec of the environments.
      num_workers: N.
      num_envs: 1.
    """

    def __init__(
        self,
        environment: EnvironmentSpec,
        env_ids: Sequence[str],
        options: dict[str, Any],
        seed: int,
        deadline: float,
        warn: Callable[[str], None],
    ):
        """Allocates the shared memory.

        Args:
          environment: spec of all environments.
          env_ids: [N], of each worker's environment.
          options: of `environments.make`.
          seed: each process derives its own from it, a new one at each start.
          deadline: seconds in which an environment has to be made, and then to answer each time.
          warn: told of what fails and is started again.
        """
        self.environment, self.num_workers, self.num_envs = environment, len(env_ids), 1
        self._mailbox = PolicyMailbox(environment, self.num_workers, self.num_envs)
        self._deadline, self._warn = deadline, warn

        def start(number: int, times_before: int) -> Hosted:
            own_seed = int(np.random.SeedSequence([seed, number, times_before]).generate_state(1)[0] >> 1)
            return Hosted(_host, self._mailbox.worker(number), env_ids[number], own_seed, options)

        self._workers = [_Worker(env_id, i, start) for i, env_id in enumerate(env_ids)]

    def open(self) -> None:
        """Starts the processes."""
        self._mailbox.open()
        for each in self._workers:
            each.start()

    def take(self, timeout: float) -> list[tuple[int, int, EnvironmentOutput]]:
        """As `PolicyMailbox.take`.

        Raises:
          UserError: an environment cannot be made, and could not before either.
        """
        taken = self._mailbox.take(timeout)
        for number, _, _ in taken:
            self._workers[number].answered()
        for each in self._workers:
            each.watch(self._deadline, self._warn)
        return taken

    def answer(self, number: int, start: int, action: np.ndarray) -> None:
        """As `PolicyMailbox.answer`."""
        self._workers[number].asked()
        self._mailbox.answer(number, start, action)

    def close(self) -> None:
        """Ends the processes."""
        for each in self._workers:
            each.end()


class _Worker:
    """One of the environments, over all of its processes."""

    def __init__(self, name: str, number: int, start: Callable[[int, int], Hosted]):
        self._name, self._number, self._start = name, number, start
        self._backoff = Backoff()
        self._asked_at: float | None = None
        self._has_answered = False
        self.process: Hosted | None = None

    def start(self) -> None:
        self._asked_at = time.monotonic()
        self.process = self._start(self._number, self._backoff.restarts)

    def asked(self) -> None:
        self._asked_at = time.monotonic()

    def answered(self) -> None:
        self._asked_at, self._has_answered = None, True

    def watch(self, deadline: float, warn: Callable[[str], None]) -> None:
        """Notices failures, and starts again what is due."""
        if self.process is None:
            if not self._backoff.seconds_left:
                self.start()
                self._backoff.started()
                warn(f"{self._name} is started again")
            return
        error = self.process.error
        if error is None and self._asked_at is not None and time.monotonic() - self._asked_at > deadline:
            error = EnvironmentFailed(f"it did not answer within {deadline:g} s")
        if error is not None:
            self.end()
            if isinstance(error, UserError) and not self._has_answered:
                raise error
            warn(f"{self._name} failed ({error}); starting it again in {self._backoff.failed():g} s")

    def end(self) -> None:
        process, self.process, self._asked_at = self.process, None, None
        if process is not None:
            process.end()


def _host(mailbox: WorkerMailbox, env_id: str, seed: int, options: dict[str, Any]) -> None:
    """The work of a worker's process."""
    environment = environments.make(env_id, 1, seed, **options)
    worker.run(environment, mailbox, lambda _: None, float("inf"), lambda: None)

"""Slow environments, each in a process of its own: started, watched, and restarted one by one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from impala_tf import environments
from impala_tf.environments.base import EnvironmentFailed, check_same_spec
from impala_tf.environments.remote import worker
from impala_tf.environments.remote.mailbox import PolicyMailbox, WorkerMailbox
from impala_tf.errors import UserError
from impala_tf.processes.child import Child, ChildFailed, end_all
from impala_tf.processes.restarts import Restarted
from impala_tf.processes.timings import Timings
from impala_tf.structures import EnvironmentOutput, EnvironmentSpec

_LOGGER = logging.getLogger(__name__)
_WATCH_SECONDS = 0.1  # Between two checks of the processes; with many, a check costs as much as a policy step.


class WorkerPool:
    """A `Mailbox` that owns its workers, each with one environment.

    A worker that dies, raises, or does not answer in time is named in the log and restarted after 0.5, 1, 2, ... 30 s;
    the others continue meanwhile.

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
        restart: bool = True,
    ):
        """Allocates the shared memory; `open` starts the processes.

        Args:
          environment: spec of all environments.
          env_ids: [N], the environment of each worker.
          options: of `environments.make`.
          seed: each process derives its own from it, a new one at each restart. A single worker without restarts uses
            `seed` itself, and so plays the same games as the environment would in this process.
          deadline: seconds in which an environment must be made and reset, and then answer each step.
          restart: whether to restart workers that fail; otherwise `take` raises.
        """
        self.environment, self.num_workers, self.num_envs = environment, len(env_ids), 1
        self._mailbox = mailbox = PolicyMailbox(environment, self.num_workers, self.num_envs)
        self._deadline, self._restart = deadline, restart
        self._watched = 0.0
        self._is_closed = False

        def start(number: int, restarts: int) -> Child:
            own_seed = int(np.random.SeedSequence([seed, number, restarts]).generate_state(1)[0] >> 1)
            if not restart and len(env_ids) == 1:
                own_seed = seed
            env_id = env_ids[number]
            return Child(env_id, _work, mailbox.worker(number), environment, env_id, own_seed, options)

        self._workers = [_Worker(env_id, i, start) for i, env_id in enumerate(env_ids)]

    @property
    def down(self) -> set[int]:
        """See `Mailbox.down`."""
        return {number for number, each in enumerate(self._workers) if each.is_down}

    def open(self) -> None:
        """Starts the processes.

        Raises:
          UserError: a process cannot be started; none is left running.
        """
        self._mailbox.open()
        try:
            for each in self._workers:
                each.start()
        except BaseException:
            self.close()
            raise

    def take(self, timeout: float) -> list[tuple[int, int, EnvironmentOutput]]:
        """See `Mailbox.take`. When it raises, all processes have been ended.

        Raises:
          UserError: an environment cannot be made and never could, or it has another spec.
          EnvironmentFailed: an environment failed and is not to be restarted, or the pool has been closed.
        """
        if self._is_closed:
            raise EnvironmentFailed("the environments have been closed")
        taken = self._mailbox.take(timeout)
        for number, _, _ in taken:
            self._workers[number].has_answered()
        if time.monotonic() - self._watched > _WATCH_SECONDS:
            try:
                for each in self._workers:
                    each.watch(self._deadline, self._restart)
            except BaseException:
                self.close()
                raise
            self._watched = time.monotonic()
        return taken

    def answer(self, worker: int, start: int, action: np.ndarray) -> None:
        """See `Mailbox.answer`."""
        self._workers[worker].is_asked()
        self._mailbox.answer(worker, start, action)

    def close(self) -> None:
        """Ends the processes."""
        self._is_closed = True
        end_all([each.process for each in self._workers if each.process is not None])


class _Worker:
    """One environment, over all of its processes."""

    def __init__(self, name: str, number: int, start: Callable[[int, int], Child]):
        self._name = name
        self._life: Restarted[Child] = Restarted(lambda restarts: start(number, restarts))
        self._asked_at: float | None = None
        self._ever_answered = False
        self.is_down = False  # It has failed, and not answered since.

    @property
    def process(self) -> Child | None:
        return self._life.current

    def start(self) -> None:
        self._asked_at = time.monotonic()
        self._life.start()

    def is_asked(self) -> None:
        self._asked_at = time.monotonic()

    def has_answered(self) -> None:
        if self.is_down:
            _LOGGER.warning("%s has been started again", self._name)
        self._asked_at, self._ever_answered, self.is_down = None, True, False

    def watch(self, deadline: float, restart: bool) -> None:
        """Handles a failure; restarts the process when a restart is due."""
        if self._life.due:
            self.start()
        if self.process is None:
            return
        error = self.process.error
        if error is None and self._asked_at is not None and time.monotonic() - self._asked_at > deadline:
            error = ChildFailed(f"it did not answer within {deadline:g} s")
        if error is None:
            return
        self.process.end()
        self.is_down = True
        if isinstance(error, UserError) and not self._ever_answered:
            raise error
        if not restart:
            raise EnvironmentFailed(f"{self._name}: {error}")
        _LOGGER.warning("%s failed (%s); starting it again in %g s", self._name, error, self._life.failed())


def _work(mailbox: WorkerMailbox, spec: EnvironmentSpec, env_id: str, seed: int, options: dict[str, Any]) -> None:
    """The work of a worker's process."""
    environment = environments.make(env_id, 1, seed, **options)
    check_same_spec(env_id, environment.spec, spec)
    worker.run(environment, mailbox, Timings(worker.ACTIVITIES))

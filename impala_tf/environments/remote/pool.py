"""Slow environments, each in a process of its own: started, watched, and restarted one by one."""

from __future__ import annotations

import logging
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from impala_tf import environments
from impala_tf.environments.base import EnvironmentFailed, check_same_spec
from impala_tf.environments.remote import worker
from impala_tf.environments.remote.mailbox import PolicyMailbox, WorkerMailbox
from impala_tf.environments.remote.output import Output, log_file
from impala_tf.environments.remote.speakers import Speakers
from impala_tf.errors import UserError, one_line
from impala_tf.machine import cores
from impala_tf.processes.child import Child, ChildEnded, end_all
from impala_tf.processes.restarts import Restarted
from impala_tf.processes.temporary import Folder
from impala_tf.processes.timings import Timings
from impala_tf.structures import EnvironmentOutput, EnvironmentSpec

_LOGGER = logging.getLogger(__name__)
_WATCH_SECONDS = 0.1  # Between two checks of the processes; with many, a check costs as much as a policy step.
# A start takes longer than a step: libraries are imported, and maps are compiled.
_FIRST_ANSWER = 2  # Deadlines.
# One that takes longer to start is waiting for something else than a core; the next may start.
_STARTING_SECONDS = 60.0


class WorkerPool:
    """A `Mailbox` that owns its workers, each with one environment.

    A worker that dies, raises, or does not answer in time is named in the log and restarted after 0.5, 1, 2, ... 30 s;
    the others continue meanwhile. What a worker writes to its standard error goes to this process's, and the last of it
    into the message if the worker dies without a reason or hangs. What it leaves in the temporary directory is removed.

    Attributes:
      environment: spec of the environments.
      num_workers: N.
      num_envs: 1.
    """

    watched = True

    def __init__(
        self,
        environment: EnvironmentSpec,
        env_ids: Sequence[str],
        options: dict[str, Any],
        seed: int,
        deadline: float,
        restart: bool = True,
        starts_at_once: int = 0,
    ):
        """Allocates the shared memory; `open` starts the processes.

        Args:
          environment: spec of all environments.
          env_ids: [N], the environment of each worker.
          options: of `environments.make`.
          seed: each process derives its own from it, a new one at each restart. A single worker without restarts uses
            `seed` itself, and so plays the same games as the environment would in this process.
          deadline: seconds in which an environment must answer a step; it has twice as long to be made and reset.
          restart: whether to restart workers that fail; otherwise `take` raises.
          starts_at_once: how many are made and reset at the same time, which takes a core each; 0: as many as there are
            cores.
        """
        self.environment, self.num_workers, self.num_envs = environment, len(env_ids), 1
        self._mailbox = mailbox = PolicyMailbox(environment, self.num_workers, self.num_envs)
        self._deadline, self._restart = deadline, restart
        self._starts_at_once = starts_at_once or cores()
        self._watched = 0.0
        self._is_closed = False
        self._temporary: Folder | None = None

        def start(number: int, restarts: int) -> tuple[Child, Output]:
            assert self._temporary is not None
            own_seed = int(np.random.SeedSequence([seed, number, restarts]).generate_state(1)[0] >> 1)
            if not restart and len(env_ids) == 1:
                own_seed = seed
            env_id = env_ids[number]
            folder = self._temporary.inner(str(number))
            log = folder / "stderr"
            child = Child(
                env_id, _work, mailbox.worker(number), environment, env_id, own_seed, options, folder, log=log
            )
            return child, Output(log)

        speakers = Speakers()
        self._workers = [_Worker(env_id, i, start, speakers) for i, env_id in enumerate(env_ids)]

    @property
    def down(self) -> set[int]:
        """See `Mailbox.down`."""
        return {number for number, each in enumerate(self._workers) if each.is_down}

    def open(self) -> None:
        """Starts the first processes; `take` starts the others, as the first answer.

        Raises:
          UserError: a process cannot be started; none is left running.
        """
        self._mailbox.open()
        try:
            self._temporary = Folder()
            self._start_those_due()
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise UserError(f"{tempfile.gettempdir()} cannot be written to: {error.strerror}.") from None
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
                self._start_those_due()
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
        if self._temporary is not None:
            self._temporary.close()

    def _start_those_due(self) -> None:
        """Starts as many as the cores bear, first those that have not failed."""
        free = self._starts_at_once - sum(each.is_starting for each in self._workers)
        due = sorted((each for each in self._workers if each.is_due), key=lambda each: each.restarts)
        for each in due[: max(free, 0)]:
            each.start()


class _Worker:
    """One environment, over all of its processes."""

    def __init__(self, name: str, number: int, start: Callable[[int, int], tuple[Child, Output]], speakers: Speakers):
        self._name, self._number, self._speakers = name, number, speakers
        self._life: Restarted[tuple[Child, Output]] = Restarted(lambda restarts: start(number, restarts))
        self._asked_at: float | None = None  # When it was asked what it has not answered yet.
        self._answers = 0  # Of the present process.
        self._ever_answered = False
        self.is_down = False  # It has failed, and not answered since.

    @property
    def process(self) -> Child | None:
        return self._life.current[0] if self._life.current else None

    @property
    def restarts(self) -> int:
        return self._life.restarts

    @property
    def is_due(self) -> bool:
        return self._life.due

    @property
    def is_starting(self) -> bool:
        asked_at = self._asked_at
        starting = self._life.current is not None and self._answers == 0 and asked_at is not None
        return starting and time.monotonic() - asked_at < _STARTING_SECONDS  # type: ignore[operator]

    def start(self) -> None:
        self._asked_at, self._answers = time.monotonic(), 0
        try:
            self._life.start()
        except OSError as error:  # Its folder cannot be made: the disk is full.
            self._has_failed(one_line(error))

    def is_asked(self) -> None:
        self._asked_at = time.monotonic()

    def has_answered(self) -> None:
        if self.is_down:
            level = logging.WARNING if self._speakers.speaks(self._number) else logging.INFO
            _LOGGER.log(level, "%s has been started again", self._name)
        self._asked_at, self._ever_answered, self.is_down = None, True, False
        self._answers += 1

    def watch(self, deadline: float, restart: bool) -> None:
        """Handles a failure."""
        if self._life.current is None:
            return
        process, output = self._life.current
        output.pass_on()
        error = process.error
        deadline *= 1 if self._answers else _FIRST_ANSWER
        if error is None and self._asked_at is not None and time.monotonic() - self._asked_at > deadline:
            error = ChildEnded(f"it did not answer within {deadline:g} s")
        if error is None:
            return
        process.end()
        words = output.last_words()
        if isinstance(error, UserError) and not self._ever_answered:
            raise error
        cause = f"{error}; it wrote: {words}" if words and isinstance(error, ChildEnded) else str(error)
        if not restart:
            raise EnvironmentFailed(f"{self._name}: {cause}")
        self._has_failed(cause)

    def _has_failed(self, cause: str) -> None:
        self.is_down = True
        level = logging.WARNING if self._speakers.may_say(self._number, self._name, cause) else logging.INFO
        wait, log = self._life.failed(), log_file()
        more = f"; see {log}" if log else ""
        _LOGGER.log(level, "%s failed (%s); starting it again in %g s%s", self._name, cause, wait, more)


def _work(
    mailbox: WorkerMailbox,
    spec: EnvironmentSpec,
    env_id: str,
    seed: int,
    options: dict[str, Any],
    folder: pathlib.Path,
) -> None:
    """The work of a worker's process, which may leave in `folder` what it likes."""
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    environment = environments.make(env_id, 1, seed, **options)
    check_same_spec(env_id, environment.spec, spec)
    worker.run(environment, mailbox, Timings(worker.ACTIVITIES))

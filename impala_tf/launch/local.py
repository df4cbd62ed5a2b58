"""Runs a program as processes on this machine and restarts actors that fail. Does not import TensorFlow."""

from __future__ import annotations

import logging
import pathlib
import signal
import threading
import time
from collections.abc import Callable

from impala_tf.architectures.program import Node, Program
from impala_tf.errors import UserError
from impala_tf.processes import child, temporary
from impala_tf.processes.child import FORK_SERVER, Child
from impala_tf.processes.parent import Spent
from impala_tf.processes.restarts import Restarted

_LOGGER = logging.getLogger(__name__)
_LOOK_SECONDS = 0.2
_SHUTDOWN_SECONDS = 8.0
_ENDING_SECONDS = 2.0

child.preload(["impala_tf.roles.learner", "impala_tf.roles.actor"])


def run(
    program: Program,
    logs: pathlib.Path,
    stop: threading.Event,
    on_spent: Callable[[str, Spent], None] = lambda name, spent: None,
) -> None:
    """Runs a program until its learner ends or `stop` is set.

    An actor that dies is restarted after 0.5, 1, 2, ... 30 s. The run ends if the learner fails, if an actor fails
    that was never ready, or if an actor ends that is not to be restarted. No process outlives this call.

    Args:
      program: the program to run.
      logs: existing folder for the processes' logs.
      stop: set it to end the run early; the learner then has 8 s to write a checkpoint.
      on_spent: called with a process's name and its time spent so far, each time that the process reports it.

    Raises:
      UserError: the error of the process that ended the run.
    """
    count = len(program.actors)
    _LOGGER.info("importing TensorFlow and Reverb; the output of the learner and %d actors is in %s", count, logs)
    learner = _start(program.learner, logs, 0, orderly=True)
    actors: list[_Actor] = []
    reported: dict[str, Spent] = {}

    def report() -> None:
        for process in (learner, *(actor.process for actor in actors)):
            if process and process.spent and process.spent is not reported.get(process.name):
                reported[process.name] = process.spent
                on_spent(process.name, process.spent)

    try:
        for node in program.actors:
            actors.append(_Actor(node, logs))
        while learner.status is None and not stop.wait(_LOOK_SECONDS):
            for actor in actors:
                actor.watch()
            learner.poll()
            report()
        ended = True
        if stop.is_set():
            learner.terminate()
            ended = learner.ends_within(_SHUTDOWN_SECONDS)
        learner.poll()  # Its last lines come before those below.
        report()
        if not ended:
            _LOGGER.warning(
                "the learner did not end within %g s and is killed; its last checkpoint is kept", _SHUTDOWN_SECONDS
            )
            return
        # A learner that SIGTERM ends had not yet begun its work: later, it would have saved instead.
        if not (stop.is_set() and learner.status == -signal.SIGTERM):
            _check_end(learner, _log_of(program.learner, logs))
        if restarts := sum(actor.restarts for actor in actors):
            _LOGGER.info("actors were restarted %d times", restarts)
    finally:
        # Actors have nothing to save, and the learner has had its time.
        for process in (learner, *(actor.process for actor in actors)):
            if process:
                process.kill()
        temporary.sweep()


class _Actor:
    """One of the program's actors, over all of its processes."""

    def __init__(self, node: Node, logs: pathlib.Path):
        """Starts the first process."""
        self._node = node
        self._life: Restarted[Child] = Restarted(lambda restarts: _start(node, logs, restarts))
        self._life.start()
        self._ended_at: float | None = None  # When the end of the current process was noticed.
        self._ever_ready = False

    @property
    def process(self) -> Child | None:
        """The process, or None while it waits for its restart."""
        return self._life.current

    @property
    def restarts(self) -> int:
        """Number of failures so far."""
        return self._life.restarts

    def watch(self) -> None:
        """Handles a failure; restarts the process when a restart is due.

        Raises:
          UserError: the failure ends the run.
        """
        process = self._life.current
        if process is None:
            if self._life.due:
                self._life.start()
            return
        status = process.status  # Before polling: once it has ended, `poll` sees all of its records.
        process.poll()
        self._ever_ready = self._ever_ready or process.ready
        if status is None:
            return
        now = time.monotonic()
        self._ended_at = self._ended_at or now
        if status > 0 and now - self._ended_at < _ENDING_SECONDS:
            return  # It may have failed because the learner is ending, which ends the run.
        name = self._node.name
        if (status > 0 and not self._ever_ready) or not self._node.restarts:
            problem = "failed" if self._ever_ready else "could not start"
            raise UserError(f"{name.capitalize()} {problem}: {process.describe_error()}")
        cause = f"was ended by signal {-status}" if status < 0 else f"ended: {process.error}"
        process.kill()
        self._ended_at = None
        wait = self._life.failed()
        _LOGGER.warning("%s %s; restart %d in %g s", name, cause, self._life.restarts, wait)


def _start(node: Node, logs: pathlib.Path, restarts: int, orderly: bool = False) -> Child:
    """Starts a node's process. An `orderly` one, the learner, is left to save when the launcher ends."""
    return Child(
        node.name,
        node.work,
        restarts,
        context=FORK_SERVER,
        log=_log_of(node, logs),
        forward=logging.INFO if orderly else logging.WARNING,
        orderly=orderly,
        on_line=(lambda level, text: _LOGGER.log(level, "%s", text)) if orderly else None,
    )


def _log_of(node: Node, logs: pathlib.Path) -> pathlib.Path:
    return logs / f"{node.name.replace(' ', '_')}.log"


def _check_end(learner: Child, log: pathlib.Path) -> None:
    """Raises UserError if the learner failed."""
    status = learner.status
    assert status is not None
    if status > 0:
        raise UserError(f"The learner failed: {learner.describe_error()}")
    if status < 0:
        raise UserError(
            f"The learner was ended by signal {-status} (see {log}). Run the same command again to resume from its "
            "last checkpoint."
        )

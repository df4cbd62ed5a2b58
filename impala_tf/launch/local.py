"""Runs a program as processes on this machine, and keeps them running. Imports no TensorFlow."""

from __future__ import annotations

import logging
import pathlib
import threading
from collections.abc import Callable

from impala_tf.architectures.program import Node, Program
from impala_tf.errors import UserError
from impala_tf.processes import child
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

    An actor that dies is restarted after 0.5, 1, 2, ... 30 s. An actor that fails before its first unroll, or a learner
    that fails, ends the run. No process outlives this call.

    Args:
      program: what to run.
      logs: folder of the processes' logs.
      stop: set to end the run early; the learner then writes a checkpoint.
      on_spent: takes a process's name and where its time has gone, whenever it reports that.

    Raises:
      UserError: with the error of the process that ended the run.
    """
    count = len(program.actors)
    _LOGGER.info("importing TensorFlow and Reverb; the output of the learner and %d actors is in %s", count, logs)
    learner = _start(program.learner, logs, 0, orderly=True)
    actors: list[_Actor] = []
    try:
        for node in program.actors:
            actors.append(_Actor(node, logs))
        while learner.status is None and not stop.wait(_LOOK_SECONDS):
            for actor in actors:
                actor.watch(learner)
            learner.poll()
            for process in (learner, *(actor.process for actor in actors)):
                if process and process.spent:
                    on_spent(process.name, process.spent)
        if stop.is_set():
            learner.terminate()
            if not learner.ends_within(_SHUTDOWN_SECONDS):
                _LOGGER.warning(
                    "the learner did not end within %g s and is killed; its last checkpoint stands", _SHUTDOWN_SECONDS
                )
                return
        _check_end(learner, _log_of(program.learner, logs))
        if restarts := sum(actor.restarts for actor in actors):
            _LOGGER.info("actors were restarted %d times", restarts)
    finally:
        # What still runs: actors have nothing to save, a learner had its time.
        for process in (learner, *(actor.process for actor in actors)):
            if process:
                process.kill()


class _Actor:
    """One of the program's actors over all of its processes."""

    def __init__(self, node: Node, logs: pathlib.Path):
        """Starts the first process."""
        self._node = node
        self._life: Restarted[Child] = Restarted(lambda restarts: _start(node, logs, restarts))
        self._life.start()

    @property
    def process(self) -> Child | None:
        """The process, or None while a restart is due."""
        return self._life.current

    @property
    def restarts(self) -> int:
        """How often it has failed."""
        return self._life.restarts

    def watch(self, learner: Child) -> None:
        """Notices a failure; restarts the process when that is due.

        Raises:
          UserError: the failure ends the run.
        """
        process = self._life.current
        if process is None:
            if self._life.due:
                self._life.start()
            return
        process.poll()
        status = process.status
        if status is None:
            return
        if status > 0 and learner.ends_within(_ENDING_SECONDS):
            return  # The actor failed because the learner ended.
        name = self._node.name
        if (status > 0 and not process.ready) or not self._node.restarts:
            raise UserError(
                f"{name.capitalize()} {'failed' if process.ready else 'could not start'}: {process.describe_error()}"
            )
        cause = f"was ended by signal {-status}" if status < 0 else f"ended: {process.error}"
        process.kill()
        wait = self._life.failed()
        _LOGGER.warning("%s %s; starting again in %g s (restart %d of it)", name, cause, wait, self._life.restarts)


def _start(node: Node, logs: pathlib.Path, restarts: int, orderly: bool = False) -> Child:
    """Starts a node's process. An `orderly` one, the learner, saves before it ends, and writes on the console."""
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
            f"The learner was ended by signal {-status} (see {log}). The same command resumes from its last checkpoint."
        )

"""Runs a program as processes on this machine and restarts actors that fail. Does not import TensorFlow."""

from __future__ import annotations

import logging
import math
import pathlib
import signal
import threading
import time
from collections.abc import Callable

from impala_tf.architectures.program import Node, Program
from impala_tf.errors import UserError
from impala_tf.processes import child, fork_server
from impala_tf.processes.child import FORK_SERVER, Child
from impala_tf.processes.parent import Spent
from impala_tf.processes.restarts import Restarted
from impala_tf.records.logdir import LogDir

_LOGGER = logging.getLogger(__name__)
_LOOK_SECONDS = 0.2
_SAVE_SECONDS = 8.0
_QUIET_SECONDS = 2.0  # Of waiting without a word.
_ENDING_SECONDS = 2.0
_ACTORS_SHARE = 0.5  # Of the stall timeout: the rest is for a new actor, before the learner gives up waiting for it.

fork_server.preload(["impala_tf.roles.learner", "impala_tf.roles.actor", "impala_tf.roles.a3c_worker"])


def run(
    program: Program,
    logdir: LogDir,
    stop: threading.Event,
    on_spent: Callable[[str, Spent], None] = lambda name, spent: None,
    stall_timeout: float = math.inf,
) -> None:
    """Runs a program until its learner ends or `stop` is set.

    An actor that dies or hangs is restarted after 0.5, 1, 2, ... 30 s. The run ends if the learner fails or hangs, if
    an actor fails that was never ready, or if an actor ends that is not to be restarted. Whatever ends it, a learner
    that still works has 8 s to write a checkpoint, if it has made an update. No process outlives this call.

    Args:
      program: the program to run.
      logdir: folder of the run; its `logs` exist.
      stop: set it to end the run early.
      on_spent: called with a process's name and its time spent so far, each time that the process reports it.
      stall_timeout: seconds without a `Beat` after which the learner hangs (`Child.hangs`); actors after half of it.

    Raises:
      UserError: the error of the process that ended the run.
    """
    logs = logdir.logs
    count = len(program.actors)
    actors_named = f"{count} actor{'s' * (count != 1)}"
    _LOGGER.info("importing TensorFlow and Reverb; the output of the learner and %s is in %s", actors_named, logs)
    try:
        learner = _start(program.learners[0], logs, stop, 0, orderly=True)
    except UserError:
        if stop.is_set():  # `_start` gave up.
            return
        raise
    actors: list[_Actor] = []
    reported: dict[str, Spent] = {}

    def report() -> None:
        for process in (learner, *(actor.process for actor in actors)):
            if process and process.spent and process.spent is not reported.get(process.name):
                reported[process.name] = process.spent
                on_spent(process.name, process.spent)

    try:
        try:
            for node in program.actors:
                if stop.is_set():
                    break
                actors.append(_Actor(node, logs, stop))
        except UserError:
            if not stop.is_set():  # Otherwise `_start` gave up.
                raise
        while learner.status is None and not stop.wait(_LOOK_SECONDS):
            learner.poll()
            if learner.hangs(stall_timeout):  # Before the actors, which may be waiting for it.
                learner.kill()
                raise UserError(
                    f"The learner gave no sign of life for {learner.silence:.0f} s (--stall_timeout) and was killed "
                    f"(see {_log_of(program.learners[0], logs)}). {_how_to_resume(logdir)}"
                )
            for actor in actors:
                actor.watch(_ACTORS_SHARE * stall_timeout)
            report()
        if learner.status is None:
            _let_save(learner)
        learner.poll()  # Its last lines come before those below.
        report()
        if not stop.is_set():
            _check_end(learner, _log_of(program.learners[0], logs), logdir)
        elif learner.status is not None and learner.status > 0:
            raise UserError(f"The learner failed while it ended: {learner.describe_error()}")
        if restarts := sum(actor.restarts for actor in actors):
            _LOGGER.info("actors were restarted %d times", restarts)
    except BaseException:
        if learner.status is None:
            _let_save(learner)
            if learner.status is not None and learner.status > 0:
                _LOGGER.warning("the learner failed while it ended: %s", learner.describe_error())
        raise
    finally:
        # Actors have nothing to save, and the learner has had its time.
        child.kill_all([process for process in (learner, *(actor.process for actor in actors)) if process])


class _Actor:
    """One of the program's actors, over all of its processes."""

    def __init__(self, node: Node, logs: pathlib.Path, stop: threading.Event):
        """Starts the first process."""
        self._node, self._log = node, _log_of(node, logs)
        self._life: Restarted[Child] = Restarted(lambda restarts: _start(node, logs, stop, restarts))
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

    def watch(self, patience: float) -> None:
        """Handles a failure, such as a silence of `patience` seconds; restarts the process when a restart is due.

        Raises:
          UserError: the failure ends the run.
        """
        process = self._life.current
        if process is None:
            if self._life.due:
                self._restart()
            return
        status = process.status  # Before polling: once it has ended, `poll` sees all of its records.
        process.poll()
        self._ever_ready = self._ever_ready or process.ready
        if status is None:
            if process.hangs(patience):
                process.kill()
                silence = f"{process.silence:.0f} s"
                self._has_failed(f"gave no sign of life for {silence} and was killed (see {self._log})")
            return
        now = time.monotonic()
        self._ended_at = self._ended_at or now
        if status > 0 and now - self._ended_at < _ENDING_SECONDS:
            return  # It may have failed because the learner is ending, which ends the run.
        if status > 0 and not self._ever_ready:
            raise UserError(f"{self._node.name.capitalize()} could not start: {process.describe_error()}")
        cause = f"was ended by signal {-status}" if status < 0 else f"ended: {process.error}"
        process.kill()
        self._ended_at = None
        self._has_failed(f"{cause} (see {self._log})")

    def _restart(self) -> None:
        try:
            self._life.start()
        except UserError as error:  # Too many processes, no memory, ...: perhaps later.
            self._wait(str(error))

    def _has_failed(self, cause: str) -> None:
        if not self._node.restarts:
            problem = "failed" if self._ever_ready else "could not start"
            raise UserError(f"{self._node.name.capitalize()} {problem}: it {cause}")
        self._wait(f"{self._node.name} {cause}")

    def _wait(self, problem: str) -> None:
        wait = self._life.failed()
        _LOGGER.warning("%s; restart %d in %g s", problem, self._life.restarts, wait)


def _start(node: Node, logs: pathlib.Path, stop: threading.Event, restarts: int, orderly: bool = False) -> Child:
    """Starts a node's process; gives up once `stop` is set. An `orderly` one, the learner, is left to save when the
    launcher ends."""
    return Child(
        node.name,
        node.work,
        restarts,
        context=FORK_SERVER,
        log=_log_of(node, logs),
        forward=logging.INFO if orderly else logging.WARNING,
        orderly=orderly,
        on_line=(lambda level, text: _LOGGER.log(level, "%s", text)) if orderly else None,
        give_up=stop,
    )


def _log_of(node: Node, logs: pathlib.Path) -> pathlib.Path:
    return logs / f"{node.name.replace(' ', '_')}.log"


def _let_save(learner: Child) -> None:
    """Asks the learner to save and end, and waits for it.

    It saves nothing before its first update, and then need not be waited for.
    """
    learner.terminate()
    if learner.ends_within(_QUIET_SECONDS) or not learner.ready:
        return
    _LOGGER.info("waiting for the learner to write its last checkpoint, at most %g s", _SAVE_SECONDS)
    if not learner.ends_within(_SAVE_SECONDS - _QUIET_SECONDS):
        _LOGGER.warning("the learner did not end within %g s and is killed; its last checkpoint is kept", _SAVE_SECONDS)


def _check_end(learner: Child, log: pathlib.Path, logdir: LogDir) -> None:
    """Raises UserError if the learner, which nobody has asked to end, did not end by itself."""
    status = learner.status
    assert status is not None
    if status > 0:
        raise UserError(f"The learner failed: {learner.describe_error()}")
    if status < 0:
        name = signal.Signals(-status).name
        raise UserError(f"The learner was ended by {name} (see {log}). {_how_to_resume(logdir)}")
    if learner.answer(0.0):
        raise UserError(f"The learner was asked to end by a signal, and has saved. {_how_to_resume(logdir)}")


def _how_to_resume(logdir: LogDir) -> str:
    if not logdir.frames:
        return "There is no checkpoint yet: the same command starts again."
    return f"Run the same command again to resume from the last checkpoint, at {logdir.frames:,} frames."

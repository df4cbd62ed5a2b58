"""Processes of a program on this machine: how a node is started, and an actor that is restarted when it fails."""

from __future__ import annotations

import logging
import pathlib
import threading
import time

from impala_tf.architectures.program import Node
from impala_tf.errors import UserError
from impala_tf.processes.child import FORK_SERVER, Child
from impala_tf.processes.restarts import Restarted

_LOGGER = logging.getLogger(__name__)
_ENDING_SECONDS = 2.0


class Actor:
    """One of the program's actors, over all of its processes."""

    def __init__(self, node: Node, logs: pathlib.Path, stop: threading.Event):
        """Starts the first process."""
        self._node, self._log = node, log_of(node, logs)
        self._life: Restarted[Child] = Restarted(lambda restarts: start(node, logs, stop, restarts))
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


def start(
    node: Node, logs: pathlib.Path, stop: threading.Event, restarts: int, *, learns: bool = False, leads: bool = False
) -> Child:
    """Starts a node's process.

    Args:
      node: the node.
      logs: folder for the file of its output.
      stop: set it to give up.
      restarts: how often the node has been started before.
      learns: whether it is a learner, which is left to save when this process ends.
      leads: whether it speaks for the run: all of its log lines are passed on, those of others from warnings on.

    Raises:
      UserError: the process cannot be started, or `stop` was set.
    """
    return Child(
        node.name,
        node.work,
        restarts,
        context=FORK_SERVER,
        log=log_of(node, logs),
        forward=logging.INFO if leads else logging.WARNING,
        orderly=learns,
        on_line=(lambda level, text: _LOGGER.log(level, "%s", text)) if leads else None,
        give_up=stop,
    )


def log_of(node: Node, logs: pathlib.Path) -> pathlib.Path:
    """Returns the file of a node's output."""
    return logs / f"{node.name.replace(' ', '_')}.log"

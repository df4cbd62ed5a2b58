"""A function at work in a child process that never outlives its parent.

Each child leads a session and process group of its own: the terminal's signals do not reach it, and programs that it
starts are ended with it. When the parent ends, however it ends, the kernel signals the child (on Linux).
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import multiprocessing.connection
import multiprocessing.util
import os
import pathlib
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from impala_tf.errors import UserError
from impala_tf.processes import child_main, fork_server, signals
from impala_tf.processes.line import Reader
from impala_tf.processes.parent import Beat, ChildEnded, ChildFailed, LogLine, Outcome, Ready, Saved, Spent

__all__ = ["FORK_SERVER", "SPAWN", "Child", "ChildEnded", "ChildFailed", "end_all", "kill_all"]

FORK_SERVER = fork_server.CONTEXT
"""Forks children from a server process that has imported what they need (`fork_server`)."""
SPAWN = multiprocessing.get_context("spawn")
"""Starts a new interpreter. Some engines (DeepMind Lab) do not survive a fork."""

_LOGGER = logging.getLogger(__name__)
_POLL_SECONDS = 0.1
_LONGEST_WAIT = 1.0  # Seconds.
_TERMINATE_SECONDS = 1.0
_KILL_SECONDS = 5.0  # Not forever: a process inside a hung file system does not die.
_FORK_SECONDS = 300.0  # The first start includes the fork server's imports.
_STARTING_SECONDS = 600.0  # Importing, making environments, compiling: slow, and not to be taken for hanging.


class Child:
    """A child process.

    It is ended when this process ends, and when the `Child` is garbage-collected.

    Attributes:
      name: for messages, and what `top` shows (its first 15 bytes).
      process: the `multiprocessing.Process`.
      ready: whether the child had sent `Ready` by the last `poll`.
      spent: the last `Spent` received by the last `poll`; None before the first.
      saved: environment frames of the last `Saved` received by the last `poll`; 0 before the first.
      silence: seconds without a `Beat` or `Ready` until the last `poll`. Times at which this process was stopped
        itself do not count, so it must be polled about once a second.
    """

    def __init__(
        self,
        name: str,
        work: Callable[..., Any],
        *args: Any,
        context: Any = SPAWN,
        log: pathlib.Path | None = None,
        forward: int = logging.WARNING,
        orderly: bool = False,
        on_line: Callable[[int, str], None] | None = None,
        give_up: threading.Event | None = None,
    ):
        """Starts the process. May be called from any thread.

        Args:
          name: of the process.
          work: the function to run, importable by name, or a `functools.partial` of one. It is pickled, and so are
            `args` and the result.
          *args: arguments of `work`.
          context: `FORK_SERVER` or `SPAWN`.
          log: file to which its standard error and log lines are appended; None: its standard error is the parent's.
          forward: level (as in `logging`) from which its log lines are also sent to the parent.
          orderly: when the parent dies, the child gets SIGTERM and is left to finish; otherwise it and the programs
            that it started get SIGKILL. A parent that exits normally ends all its children as `end` does.
          on_line: takes level and text of each line sent to the parent; by default it is logged with the child's name.
          give_up: set it to end the wait for the fork server, which may still be importing.

        Raises:
          UserError: the process cannot be started, or `give_up` was set.
        """
        self.name, self.ready = name, False
        self.spent: Spent | None = None
        self.saved = 0
        self.silence, self._polled = 0.0, time.monotonic()
        self._log = log
        self._outcome: Outcome | None = None
        self._on_line = on_line or (lambda level, text: _LOGGER.log(level, "%s: %s", name, text))
        connection, its_line = context.Pipe(duplex=False)
        # Nothing is ever written to this one: its hang-up tells the child that this process has ended.
        its_lifeline, self._lifeline = context.Pipe(duplex=False)
        self._line = Reader(connection)
        arguments = (its_line, its_lifeline, name, log, forward, orderly, work, args)
        # multiprocessing ends daemons when this process exits; `child_main` lifts what it forbids them.
        self.process = context.Process(target=child_main.run, args=arguments, name=name, daemon=True)
        try:
            if context is FORK_SERVER:
                fork_server.ensure_running()
                with fork_server.killed_after(_FORK_SECONDS, give_up):
                    self.process.start()
            else:
                fork_server.start_tracker()
                with signals.blocked():
                    self.process.start()
            # Priority 1: runs before multiprocessing ends its daemons, which would spare the programs they started.
            self._at_exit = multiprocessing.util.Finalize(self, _end, ([self.process],), exitpriority=1)
        except BaseException as error:
            self._line.close()
            self._lifeline.close()
            if isinstance(error, (OSError, EOFError)):
                ended = "the fork server, which starts it, was killed"
                cause = ended if isinstance(error, EOFError) else f"{type(error).__name__}: {error}"
                raise UserError(f"The {name} could not be started ({cause}).") from None
            raise
        finally:
            its_line.close()
            its_lifeline.close()

    @property
    def status(self) -> int | None:
        """Exit status; the negative number of the signal that ended the process; None while it runs.

        255 if the fork server was killed while the process ran, and the process has not said how its work ended.
        """
        status = self.process.exitcode
        if status != fork_server.LOST:
            return status
        if not self._line.closed:
            return None  # Only the fork server has ended; the child's own end closes its line.
        if self._outcome is None:
            return status
        return child_main.status_of(self._outcome)

    def poll(self) -> None:
        """Handles the records that have arrived: passes log lines on, updates the attributes. Does not wait."""
        now = time.monotonic()
        self.silence += min(now - self._polled, _LONGEST_WAIT)
        self._polled = now
        if self._line.closed:
            return
        ended = self.status is not None  # Asked before reading: if it has ended, all of its records have arrived.
        for record in self._line.read():
            if isinstance(record, (Beat, Ready)):
                self.ready, self.silence = self.ready or isinstance(record, Ready), 0.0
            elif isinstance(record, LogLine):
                self._on_line(record.level, record.text)
            elif isinstance(record, Spent):
                self.spent = record
            elif isinstance(record, Saved):
                self.saved = record.frames
            else:
                self._outcome = record
        if ended:
            self._line.close()

    def hangs(self, seconds: float) -> bool:
        """Whether it runs and has been silent for `seconds`; before it is ready, for ten minutes, if that is longer."""
        longest = seconds if self.ready else max(seconds, _STARTING_SECONDS)
        return self.silence > longest and self.status is None

    def answer(self, seconds: float) -> Any:
        """Waits for the work's return value.

        Raises:
          UserError: as the work did.
          ChildFailed: the work raised anything else, the process ended, or there was no answer within `seconds`.
        """
        deadline = time.monotonic() + seconds
        self.poll()
        while self._outcome is None and not self._line.closed:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ChildFailed(f"there was no answer within {seconds:g} s")
            # Not in one piece: programs that the child has started may keep both open after its end.
            sources: Any = [self._line, self.process.sentinel]
            multiprocessing.connection.wait(sources, min(left, _LONGEST_WAIT))
            self.poll()
        if self._outcome is not None and self._outcome.error is None:
            return self._outcome.answer
        raise self._failure()

    @property
    def error(self) -> Exception | None:
        """Why work that should run until it is ended has ended: a `UserError` or `ChildFailed`; None while it runs.

        `ChildEnded` if the process has ended without an answer.
        """
        self.poll()
        return self._failure() if self._outcome is not None or self._line.closed else None

    def describe_error(self) -> str:
        """The error as one line, with the log file that has the details."""
        text = str(self.error or "it is still running")
        return f"{text} (see {self._log})" if self._log else text

    def ends_within(self, seconds: float) -> bool:
        """Waits for the process to end and handles its records meanwhile; False if it still runs after `seconds`."""
        deadline = time.monotonic() + seconds
        while self.status is None and (left := deadline - time.monotonic()) > 0:
            self.poll()
            if self.process.exitcode is None:
                self.process.join(min(_POLL_SECONDS, left))
            else:  # The fork server has ended, and nothing else can be waited for.
                time.sleep(min(_POLL_SECONDS, left))
        self.poll()
        return self.status is not None

    def terminate(self) -> None:
        """Asks the process to end (SIGTERM); does not wait."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Kills the process and the programs that it started, and waits until it is gone, at most 5 s."""
        kill_all([self])

    def end(self, seconds: float = 0.0) -> None:
        """Gives the process `seconds` to end by itself, then ends it and the programs that it started.

        They get SIGTERM and, 1 s later, SIGKILL.
        """
        end_all([self], seconds)

    def _close(self) -> None:
        self.poll()
        self._line.close()
        self._lifeline.close()
        self._at_exit.cancel()

    def _failure(self) -> Exception:
        if self._outcome is not None and self._outcome.error is not None:
            return self._outcome.error
        return ChildEnded(f"its process {_how_ended(self.process)}")


def end_all(children: Sequence[Child], seconds: float = 0.0) -> None:
    """Does `Child.end` for several children at once, which takes no longer than for one."""
    deadline = time.monotonic() + seconds
    for child in children:
        child.ends_within(max(0.0, deadline - time.monotonic()))
    # Each only once: the numbers of processes long gone may belong to others by now.
    _end([child.process for child in children if child._at_exit.still_active()])
    for child in children:
        child._close()


def kill_all(children: Sequence[Child]) -> None:
    """Does `Child.kill` for several children at once."""
    _signal_and_wait([child.process for child in children if child._at_exit.still_active()], [_KILL])
    for child in children:
        child._close()


_TERMINATE, _KILL = (signal.SIGTERM, _TERMINATE_SECONDS), (signal.SIGKILL, _KILL_SECONDS)


def _end(processes: Sequence[Any]) -> None:
    _signal_and_wait(processes, [_TERMINATE, _KILL])


def _signal_and_wait(processes: Sequence[Any], steps: Sequence[tuple[signal.Signals, float]]) -> None:
    for sig, patience in steps:
        _signal_groups(processes, sig)
        deadline = time.monotonic() + patience
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
    if any(process.exitcode is None for process in processes):
        # The end of its children is told by the fork server. If it hangs, multiprocessing would wait for it for ever.
        fork_server.kill()
        for process in processes:
            process.join(_TERMINATE_SECONDS)


def _signal_groups(processes: Sequence[Any], sig: signal.Signals) -> None:
    """Signals the processes and the programs that they started; those also where the process itself is gone."""
    for process in processes:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, sig)
        if process.is_alive():
            with contextlib.suppress(OSError):
                os.kill(process.pid, sig)  # It may not lead its group yet.


def _how_ended(process: Any) -> str:
    """How a process ended, for a message: "was ended by SIGSEGV"."""
    process.join(_TERMINATE_SECONDS)
    status = process.exitcode
    if status is None:
        return "closed its connection"
    if status == fork_server.LOST:
        return "has ended, as has the fork server, which would know how"
    if status >= 0:
        return f"ended with exit status {status}"
    names = {each.value: each.name for each in signal.Signals}
    return f"was ended by {names.get(-status, f'signal {-status}')}"

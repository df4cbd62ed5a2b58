"""Processes that host environments, and end.

None is left over: each leads a process group of its own, so that engines that are programs of their own end with it,
and the kernel kills the group when the process that started it has ended, in whichever way (on Linux).
"""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from impala_tf.environments.base import EnvironmentFailed
from impala_tf.errors import UserError, one_line

# Not fork: neither TensorFlow nor some engines survive it.
context = multiprocessing.get_context("spawn")

_TERMINATE_SECONDS = 1.0
_KILL_SECONDS = 5.0


class Hosted:
    """A function at work in a process of its own."""

    def __init__(self, work: Callable[..., Any], *args: Any):
        """Starts it. `work`, a function of a module, `args` and what it returns are pickled."""
        self._outcome, writer = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(writer, work, *args), daemon=True)
        with without_interrupts():
            self.process.start()
        writer.close()

    def answer(self, seconds: float) -> Any:
        """What its work returns.

        Raises:
          UserError: as its work does.
          EnvironmentFailed: anything else ended it, or nothing came within `seconds`.
        """
        if not self._outcome.poll(seconds):
            raise EnvironmentFailed(f"there was no answer within {seconds:g} s")
        try:
            answer, error = self._outcome.recv()
        except EOFError:
            error = EnvironmentFailed(f"its process {end_of(self.process)}")
        if error is not None:
            raise error
        return answer

    @property
    def error(self) -> Exception | None:
        """What ended work that is for ever, None while it runs: a `UserError` of it, or an `EnvironmentFailed`."""
        if self.process.is_alive():
            return None
        try:
            self.answer(0.0)
        except (UserError, EnvironmentFailed) as error:
            return error
        return EnvironmentFailed(f"its process {end_of(self.process)}")

    def end(self) -> None:
        """Ends it and what it has started."""
        end([self.process], 0.0)
        self._outcome.close()


def end(processes: Sequence[Any], seconds: float) -> None:
    """Waits for the processes to end, then ends them, and their own children that are left."""
    for sig, patience in ((None, seconds), (signal.SIGTERM, _TERMINATE_SECONDS), (signal.SIGKILL, _KILL_SECONDS)):
        for process in processes:
            if sig is not None:
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, sig)
                if process.is_alive():
                    os.kill(process.pid, sig)  # It may not have come to lead a group yet.
        end = time.monotonic() + patience
        for process in processes:
            process.join(max(0.0, end - time.monotonic()))


def end_of(process: Any) -> str:
    """How it ended, for a message."""
    process.join(_TERMINATE_SECONDS)
    status = process.exitcode
    if status is None:
        return "closed its connection"
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"


@contextlib.contextmanager
def without_interrupts() -> Iterator[None]:
    """Processes that are started here do not see Ctrl-C, which is for this one to handle."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def end_with_parent() -> None:
    """Lets the kernel kill this process and all that it starts when the parent has ended; Linux only.

    By the hang-up of a pipe whose other end only the parent has. Unlike a thread that watches it, that needs no
    interpreter, which an environment may hold for ever; unlike PR_SET_PDEATHSIG, it reaches engines that environments
    start as programs of their own.
    """
    os.setpgid(0, 0)
    parent = multiprocessing.parent_process()
    if parent is None or not hasattr(fcntl, "F_SETOWN") or sys.platform != "linux":
        return
    f_setsig = 10
    fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, -os.getpid())
    fcntl.fcntl(parent.sentinel, f_setsig, signal.SIGKILL)
    flags = fcntl.fcntl(parent.sentinel, fcntl.F_GETFL)
    fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, flags | os.O_ASYNC)


def _work(writer: Any, work: Callable[..., Any], *args: Any) -> None:
    end_with_parent()
    answer, failure = None, None
    try:
        answer = work(*args)
    except Exception as error:
        failure = error if isinstance(error, UserError) else EnvironmentFailed(one_line(error))
    with contextlib.suppress(BrokenPipeError):  # The parent is gone.
        writer.send((answer, failure))

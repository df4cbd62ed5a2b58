"""The signals that ask a command to end: turned into an event that loops check, or kept from processes that start."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C; what `kill`, `timeout` and schedulers send; and the end of the terminal."""


def handle(handler: Callable[[int, FrameType | None], None]) -> None:
    """Has `handler` called at each of the signals in `STOP`; main thread only. SIGHUP stays ignored under `nohup`."""
    for number in STOP:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def stop_on_signal(second: signal.Handlers = signal.SIG_DFL) -> tuple[threading.Event, list[int]]:
    """Handles the signals in `STOP` by setting an event.

    Args:
      second: what a second signal of the same kind does: SIG_DFL ends the process, SIG_IGN ignores it.

    Returns:
      An event that each of the signals sets, and the list of the signals received so far.
    """
    stop, received = threading.Event(), []

    def note(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, second)
        received.append(number)
        stop.set()

    handle(note)
    return stop, received


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Blocks the signals in `STOP` in this thread, and in processes that it starts, until those unblock them."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)

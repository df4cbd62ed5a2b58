"""Turns Ctrl-C and SIGTERM into an event that loops check."""

from __future__ import annotations

import signal
import threading


def stop_on_signal(second: signal.Handlers = signal.SIG_DFL) -> tuple[threading.Event, list[int]]:
    """Installs handlers for SIGINT and SIGTERM; main thread only.

    Args:
      second: what a second signal of the same kind does: SIG_DFL ends the process, SIG_IGN ignores it.

    Returns:
      An event that either signal sets, and the list of the signals received so far.
    """
    stop, received = threading.Event(), []

    def handle(number: int, _frame: object) -> None:
        signal.signal(number, second)
        received.append(number)
        stop.set()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    return stop, received

"""Ctrl-C and SIGTERM as an event that loops look at."""

from __future__ import annotations

import signal
import threading


def stop_on_signal(second: signal.Handlers = signal.SIG_DFL) -> tuple[threading.Event, list[int]]:
    """An event that Ctrl-C and SIGTERM set, and the signals that came. A second one ends the process at once.

    Args:
      second: SIG_IGN to take no notice of a second one.
    """
    stop, received = threading.Event(), []

    def handle(number: int, _frame: object) -> None:
        signal.signal(number, second)
        received.append(number)
        stop.set()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    return stop, received

"""Ends a command on Ctrl-C, SIGTERM and SIGHUP, at any moment: in one line, with status 128 + signal."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from impala_tf.processes import signals

_PATIENCE_SECONDS = 5.0


class Ending:
    """Handles the signals of a command that keeps on disk what it has finished.

    Until `begin`, there is nothing to finish, and a signal ends the process at once: exceptions raised by a signal get
    lost or garbled while libraries are imported. Later, a signal sets `stopped`, and the process ends at once if it is
    still there 5 s later, because an environment hangs, or at a second signal. Its children end with it.

    Attributes:
      line: what to say at the end, after "Ended early by SIGTERM".
      clean_up: called right before the process ends.
    """

    def __init__(self, line: str):
        """Installs the handlers; main thread only."""
        self.line = line
        self.clean_up: Callable[[], None] = lambda: None
        self._received = 0
        self._begun = False
        signals.handle(self._handle)

    def begin(self) -> None:
        """From now on, a signal lets the command finish what it is doing."""
        self._begun = True

    def stopped(self) -> bool:
        """Returns whether a signal has come."""
        return bool(self._received)

    def exit(self) -> NoReturn:
        """Says why, and ends the process without further ado."""
        text = f"Ended early by {signal.Signals(self._received).name}{self.line}\n"
        with contextlib.suppress(OSError):  # The reader of a pipe may have got the same signal.
            os.write(1, text.encode())
        with contextlib.suppress(Exception):
            self.clean_up()
        os._exit(128 + self._received)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        again, self._received = self._received, number
        if again or not self._begun:
            self.exit()
        timer = threading.Timer(_PATIENCE_SECONDS, self.exit)
        timer.daemon = True
        timer.start()

"""A child's line to its parent: the records that travel on it, and how the child sends them.

In a process that no `Child` started, records are dropped.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from impala_tf.processes import line

_MAX_TEXT = line.MAX_BYTES - 200  # Bytes of a log line; the rest of a record takes less than 200.


class ChildFailed(RuntimeError):
    """A child died, raised, or did not answer in time; the message says which."""


class ChildEnded(ChildFailed):
    """Its process ended without saying why: an engine inside it has ended it, or it was killed."""


class Ready(NamedTuple):
    """The child has finished setting up; its work proper begins."""


class Beat(NamedTuple):
    """A sign of life: the child's work goes on."""


class LogLine(NamedTuple):
    """A line of the child's log, for the parent's console.

    Attributes:
      level: as in `logging`.
      text: the line.
    """

    level: int
    text: str


class Spent(NamedTuple):
    """Where a child's time has gone since its work began.

    Attributes:
      seconds: {activity: seconds}.
      elapsed: seconds since then.
    """

    seconds: dict[str, float]
    elapsed: float


class Saved(NamedTuple):
    """The child has written a checkpoint.

    Attributes:
      frames: environment frames at which it was written.
    """

    frames: int


class Outcome(NamedTuple):
    """The last record of a child: what its work returned or raised.

    Attributes:
      answer: the return value; None if the work raised.
      error: a `UserError` or `ChildFailed`; None if the work returned.
    """

    answer: Any
    error: Exception | None


_BEAT_SECONDS = 1.0
_next_beat = 0.0
_lock = threading.RLock()  # Reentrant: a signal handler that logs may interrupt a `send`.
_connection: Connection | None = None


def connect(connection: Connection) -> None:
    """Makes `connection`, the writing end of a pipe, this process's line to its parent."""
    global _connection
    os.set_blocking(connection.fileno(), False)
    _connection = connection


def send(record: Ready | Beat | LogLine | Spent | Saved) -> None:
    """Sends a record without ever waiting: while the parent does not read and the pipe is full, records are dropped.

    Raises:
      ValueError: the record is larger than `line.MAX_BYTES`.
    """
    data = line.pack(record)
    if len(data) > line.MAX_BYTES:
        raise ValueError(f"a record has {len(data)} bytes, more than {line.MAX_BYTES}")
    with _lock, contextlib.suppress(BlockingIOError, BrokenPipeError):
        if _connection is not None:
            os.write(_connection.fileno(), data)


def beat() -> None:
    """Shows the parent that the work goes on. Call it in the loop that does the work, in no other thread.

    It may be called at every step: it sends at most one `Beat` a second.
    """
    global _next_beat
    now = time.monotonic()
    if now >= _next_beat:
        _next_beat = now + _BEAT_SECONDS
        send(Beat())


def finish(outcome: Outcome) -> None:
    """Sends the last record, of any size, and closes the line. Waits until the parent has read all but the last 64 KiB.

    Raises whatever pickling the outcome raises; the line is then still open.
    """
    global _connection
    data = memoryview(line.pack(outcome))
    with _lock:
        connection, _connection = _connection, None
    if connection is None:
        return
    with connection, contextlib.suppress(BrokenPipeError):
        os.set_blocking(connection.fileno(), True)
        while data:
            data = data[os.write(connection.fileno(), data) :]


class ToParent(logging.Handler):
    """Sends log lines to the parent, each line of a message by itself, so that tables fit, too."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            for text in record.getMessage().split("\n"):
                send(LogLine(record.levelno, _shortened(text)))
        except Exception:
            self.handleError(record)


def _shortened(text: str) -> str:
    """Cuts a line that is too long for a record, and marks the cut."""
    encoded = text.encode(errors="replace")
    return text if len(encoded) <= _MAX_TEXT else encoded[:_MAX_TEXT].decode(errors="ignore") + "…"

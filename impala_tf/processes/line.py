"""Records on a pipe, each a pickle preceded by its length, read without ever waiting."""

from __future__ import annotations

import os
import pickle
import select
import struct
from multiprocessing.connection import Connection
from typing import Any

MAX_BYTES = select.PIPE_BUF
"""A packed record of at most this size enters a pipe in one piece or, where the pipe is full, not at all."""

_LENGTH = struct.Struct("=Q")
_CHUNK = 1 << 16


def pack(record: Any) -> bytes:
    """The bytes that carry a record. Raises whatever pickling it raises."""
    content = pickle.dumps(record, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(content)) + content


class Reader:
    """The reading end of a pipe of records.

    Attributes:
      closed: whether the line is over, because the writer closed it or `close` was called.
    """

    def __init__(self, connection: Connection):
        os.set_blocking(connection.fileno(), False)
        self._connection = connection
        self._bytes = bytearray()
        self.closed = False

    def fileno(self) -> int:
        return self._connection.fileno()

    def read(self) -> list[Any]:
        """Returns the records that have arrived completely since the last call."""
        while not self.closed:
            try:
                chunk = os.read(self.fileno(), _CHUNK)
            except BlockingIOError:
                break
            self._bytes += chunk
            if not chunk:
                self.close()
        records = []
        while len(self._bytes) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._bytes)[0]
            if len(self._bytes) < end:
                break
            records.append(pickle.loads(self._bytes[_LENGTH.size : end]))
            del self._bytes[:end]
        return records

    def close(self) -> None:
        self.closed = True
        self._connection.close()

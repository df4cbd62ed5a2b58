"""What an environment's process writes to its standard error: the engine's own words, when it fails."""

from __future__ import annotations

import contextlib
import os
import pathlib
import stat

_REMEMBERED_BYTES = 4000
_MOST_BYTES = 1 << 20  # Of the file.
_LAST_LINES = 3
_LAST_CHARACTERS = 300


def log_file() -> str:
    """Returns the file to which this process's standard error goes; "" if it is none, or where /proc is not there."""
    with contextlib.suppress(OSError):
        path = os.readlink("/proc/self/fd/2")
        if stat.S_ISREG(os.fstat(2).st_mode) and os.path.exists(path):
            return path
    return ""


class Output:
    """Passes on what a process appends to a file, and remembers the end of it.

    The file never blocks the process, as a pipe would, and is emptied from time to time.
    """

    def __init__(self, path: pathlib.Path):
        """
        Args:
          path: of the file, which the process must have opened for appending; it need not be there yet.
        """
        self._path, self._read, self._end = path, 0, b""

    def pass_on(self) -> None:
        """Copies what is new to this process's own standard error, which is part of the run's logs."""
        with contextlib.suppress(OSError):  # It has not been opened yet, or the disk is full.
            if os.stat(self._path).st_size == self._read:
                return
            with open(self._path, "rb") as file:
                file.seek(self._read)
                new = file.read()
            self._read += len(new)
            self._end = (self._end + new)[-_REMEMBERED_BYTES:]
            if self._read > _MOST_BYTES:
                os.truncate(self._path, 0)
                self._read = 0
            os.write(2, new)

    def last_words(self) -> str:
        """Returns the last lines, without the interpreter's report of a crash, as one; "" if there are none."""
        self.pass_on()
        text = self._end.decode(errors="replace").partition("Fatal Python error")[0]
        lines = [" ".join(line.split()) for line in text.splitlines()]
        return " ".join([line for line in lines if line][-_LAST_LINES:])[-_LAST_CHARACTERS:]

"""Temporary folders that do not outlive the process that made them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import shutil
import tempfile


class Scratch:
    """A folder in the system's temporary directory, removed by `remove`.

    If its process dies before that, however it dies, the next `Scratch` of the same purpose on this machine removes it.

    Attributes:
      path: of the folder.
    """

    def __init__(self, purpose: str):
        """Makes the folder, and removes those of processes that are gone.

        Args:
          purpose: a word, part of the folder's name.

        Raises:
          OSError: the folder cannot be made.
        """
        prefix = f"impala_tf_{purpose}_"
        for folder in pathlib.Path(tempfile.gettempdir()).glob(f"{prefix}*"):
            if (lock := _lock(folder)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)
        while True:
            self.path = pathlib.Path(tempfile.mkdtemp(prefix=prefix))
            lock = _lock(self.path)
            if lock is not None:
                self._lock: int | None = lock
                return  # Otherwise another process has taken it for abandoned before it was locked.

    def folder(self, name: str) -> pathlib.Path:
        """Returns the path of an empty folder in this one; what was there under this name is removed.

        Raises:
          OSError: the folder cannot be made.
        """
        path = self.path / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path

    def remove(self) -> None:
        """Removes the folder and what is in it. May be called twice."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _lock(folder: pathlib.Path) -> int | None:
    """Locks a folder until its process ends or the descriptor that is returned is closed; None if that is not possible.

    Only a folder that is still there and that no living process has locked can be locked.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(folder)):
                return descriptor
        except OSError:
            pass
        os.close(descriptor)
    return None

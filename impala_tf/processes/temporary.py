"""Temporary folders that do not outlive the process that made them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import shutil
import tempfile
import weakref

_PREFIX = "impala_tf-"  # Short, since paths of sockets must be.


class Folder:
    """A folder in the system's temporary directory, removed by `close` or when this process ends.

    If the process is killed, `sweep` removes it, as does the next `Folder` on this machine.

    Attributes:
      path: of the folder.
    """

    def __init__(self) -> None:
        """Makes the folder, and removes those of processes that are gone.

        Raises:
          OSError: the folder cannot be made.
        """
        sweep()
        while True:
            self.path = pathlib.Path(tempfile.mkdtemp(prefix=_PREFIX))
            lock = _lock(self.path)
            if lock is not None:
                break  # Otherwise another process has taken it for abandoned before it was locked.
        self._close = weakref.finalize(self, _remove, self.path, lock, os.getpid())

    def inner(self, name: str) -> pathlib.Path:
        """Returns the path of an empty folder in this one; what was there under this name is removed.

        Raises:
          OSError: the folder cannot be made.
        """
        path = self.path / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path

    def close(self) -> None:
        """Removes the folder and what is in it. May be called twice."""
        self._close()


def sweep() -> None:
    """Removes the folders of processes that are gone."""
    for folder in pathlib.Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if (lock := _lock(folder)) is not None:
            _remove(folder, lock, os.getpid())


def _remove(folder: pathlib.Path, lock: int, owner: int) -> None:
    if os.getpid() != owner:  # A process that its owner has forked.
        return
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


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

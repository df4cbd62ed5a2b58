"""Temporary folders that do not outlive the process that made them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import shutil
import tempfile
import weakref

_PREFIX = "impala_tf-"


class Folder:
    """A temporary folder, removed by `close` or when this process ends.

    If the process is killed, the next `Folder` in the same place removes it.

    Attributes:
      path: of the folder.
    """

    def __init__(self, place: str | None = None) -> None:
        """Makes the folder, and removes those of processes that are gone.

        Args:
          place: existing folder to make it in; None: the system's temporary directory.

        Raises:
          OSError: the folder cannot be made or locked.
        """
        place = place or tempfile.gettempdir()
        _sweep(place)
        lock: int | None = None
        while lock is None:  # Another process may take it for abandoned before it is locked.
            self.path = pathlib.Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
            try:
                lock = _lock(self.path)
            except OSError:
                self.path.rmdir()
                raise
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


def _sweep(place: str) -> None:
    """Removes the folders of processes that are gone."""
    for folder in pathlib.Path(place).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # It is no folder, or somebody else's.
            if (lock := _lock(folder)) is not None:
                _remove(folder, lock, os.getpid())


def _remove(folder: pathlib.Path, lock: int, owner: int) -> None:
    if os.getpid() != owner:  # A process that its owner has forked.
        return
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


def _lock(folder: pathlib.Path) -> int | None:
    """Locks a folder until its process ends or the descriptor that is returned is closed.

    Returns None if it is gone or another living process has locked it. Raises OSError if it cannot be locked at all.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.stat(folder)):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None

"""A temporary folder of this process; what a process that was killed has left of its own is removed by the next."""

from __future__ import annotations

import contextlib
import fcntl
import pathlib
import shutil
import tempfile
from typing import IO

_PREFIX = "impala_tf_"  # Short, since paths of sockets must be.
_LOCK = ".owner"


class Folder:
    """A folder that is removed by `close` or, if its owner was killed, when another process makes one.

    Its owner is known by a lock, which the kernel releases however the owner ends.

    Attributes:
      path: the folder.
    """

    def __init__(self) -> None:
        _remove_orphans()
        self.path = pathlib.Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock: IO = open(self.path / _LOCK, "w")  # noqa: SIM115 - open until `close`
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def close(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def _remove_orphans() -> None:
    for path in pathlib.Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError), open(path / _LOCK, "r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # Fails where the owner lives.
            shutil.rmtree(path, ignore_errors=True)

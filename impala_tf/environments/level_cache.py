"""Caches compiled DeepMind Lab maps in a folder that processes share.

Lab generates most mazes from the episode's seed and compiles each map when the episode begins, which takes seconds. It
first asks its level cache for the map, and afterwards passes the compiled map to the cache. Lab trusts the cache: a
missing or damaged map ends the process. Files are therefore only ever written whole, and read through before use.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from impala_tf.errors import UserError


class LevelCache:
    """The `level_cache` of `deepmind_lab.Lab`, which calls `fetch` and, if that found nothing, `write`.

    Maps are never deleted.

    Args:
      folder: created if missing; any number of processes may share it.

    Raises:
      UserError: the folder cannot be created or written to.
    """

    def __init__(self, folder: str):
        self._folder = Path(folder).expanduser()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self._folder).close()
        except OSError as error:
            raise UserError(f"the level cache {folder} cannot be written to: {error.strerror}") from error

    def fetch(self, key: str, pk3_path: str) -> bool:
        """Copies the map `key` to `pk3_path`; returns whether the cache has it, undamaged."""
        try:
            _copy(self._folder / key, Path(pk3_path))
            with zipfile.ZipFile(pk3_path) as pk3:  # A pk3 is a zip file, with a checksum for each of its members.
                whole = pk3.testzip() is None
        except Exception:  # Damage has many names: BadZipFile, zlib.error, EOFError, NotImplementedError, ...
            whole = False
        if not whole:
            Path(pk3_path).unlink(missing_ok=True)
        return whole

    def write(self, key: str, pk3_path: str) -> None:
        """Stores the map at `pk3_path` under `key`."""
        with contextlib.suppress(OSError):  # A full disk must not end the run; the map is compiled again.
            _copy(Path(pk3_path), self._folder / key)


def _copy(source: Path, target: Path) -> None:
    """Copies a file so that `target` appears whole or not at all; raises OSError in the latter case."""
    handle, part = tempfile.mkstemp(dir=target.parent, prefix=".part-")
    try:
        with open(source, "rb") as read, open(handle, "wb") as write:
            shutil.copyfileobj(read, write)
        os.replace(part, target)
    except BaseException:
        os.unlink(part)
        raise

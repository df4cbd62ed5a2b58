"""A folder of compiled DeepMind Lab maps, shared by processes.

Lab draws most mazes from the episode's seed and compiles each map when the episode begins, which takes seconds. Before
that it asks its level cache for the map, and afterwards hands it over. What a cache offers Lab believes: a missing or
damaged map ends the process. So files come and go here only whole, and each is read through before it is offered.
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
    """The `level_cache` that `deepmind_lab.Lab` takes: it calls `fetch` and, where that found nothing, `write`.

    Never deletes anything.

    Args:
      folder: made if it is not there; any number of processes may share it.

    Raises:
      UserError: it cannot be made or written to.
    """

    def __init__(self, folder: str):
        self._folder = Path(folder).expanduser()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self._folder).close()
        except OSError as error:
            raise UserError(f"the level cache {folder} cannot be written to: {error.strerror}") from error

    def fetch(self, key: str, pk3_path: str) -> bool:
        """Copies the map `key` to `pk3_path`; says whether it is there, whole."""
        try:
            _copy(self._folder / key, Path(pk3_path))
            with zipfile.ZipFile(pk3_path) as pk3:  # A pk3 is a zip file, with a checksum for each of its members.
                whole = pk3.testzip() is None
        except (OSError, zipfile.BadZipFile):
            whole = False
        if not whole:
            Path(pk3_path).unlink(missing_ok=True)
        return whole

    def write(self, key: str, pk3_path: str) -> None:
        """Keeps the map at `pk3_path` as `key`."""
        with contextlib.suppress(OSError):  # A full disk costs the time to compile again, not the run.
            _copy(Path(pk3_path), self._folder / key)


def _copy(source: Path, target: Path) -> None:
    """Copies a file so that `target` appears whole or, with an OSError, not at all."""
    handle, part = tempfile.mkstemp(dir=target.parent, prefix=".part-")
    try:
        with open(source, "rb") as read, open(handle, "wb") as write:
            shutil.copyfileobj(read, write)
        os.replace(part, target)
    except BaseException:
        os.unlink(part)
        raise

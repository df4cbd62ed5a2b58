"""Checkpoints of a learner: parameters, optimizer slots, learner step, frames, and a small dict of further state.

The frame count is also the position in the learning rate's schedule. Random number generators need no saved state:
seeds are derived from the run's seed, the process's number, and how far the run was when the process started.
"""

from __future__ import annotations

import json
import logging
import os
import pathlib
import shutil
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from impala_tf.errors import UserError
from impala_tf.files import write_json
from impala_tf.records.logdir import saved

_LOGGER = logging.getLogger(__name__)


class Checkpointer:
    """Saves and restores trackables, such as a `tf.Module`, together with a small dict.

    A checkpoint is a folder named by its frame count. It is written under a temporary name and renamed once it is
    complete and on disk, so every folder whose name is a number holds a complete checkpoint.
    """

    def __init__(self, folder: pathlib.Path, keep: int, **trackables: Any):
        """Creates the folder if it is missing, and removes what a killed process left half-written.

        Only one process may have a `Checkpointer` of the folder at a time; `LogDir.lock` sees to it.

        Args:
          folder: folder of the checkpoints.
          keep: number of checkpoints to keep; older ones are removed.
          **trackables: the objects to save, by name.
        """
        self._folder, self._keep = folder, keep
        self._checkpoint = tf.train.Checkpoint(**trackables)
        folder.mkdir(parents=True, exist_ok=True)
        self._remove_partial()

    def _remove_partial(self) -> None:
        for partial in self._folder.glob(".partial-*"):
            shutil.rmtree(partial, ignore_errors=True)

    @property
    def age(self) -> float | None:
        """Seconds since the newest checkpoint was written, by whichever start of the run; None if there is none."""
        newest = saved(self._folder)[:1]
        return max(0.0, time.time() - newest[0].stat().st_mtime) if newest else None

    def save(self, frames: int, state: dict[str, Any]) -> None:
        """Writes a checkpoint, unless there is one of these frames: it holds the same.

        Args:
          frames: environment frames so far, which name the checkpoint.
          state: dict that can be written as JSON; `restore` returns it.

        Raises:
          OSError, tf.errors.OpError: the checkpoint could not be written; earlier ones are untouched.
        """
        final, partial = (self._folder / f"{prefix}{frames:012d}" for prefix in ("", ".partial-"))
        self._remove_partial()
        if final.exists():
            return
        try:
            self._folder.mkdir(exist_ok=True)  # Somebody may have removed it; the run's folder must still be there.
            partial.mkdir()
            self._checkpoint.write(str(partial / "variables"))
            write_json(partial / "state.json", state)
            for file in partial.iterdir():
                with open(file, "rb") as opened:
                    os.fsync(opened.fileno())
            partial.rename(final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        for old in saved(self._folder)[self._keep :]:
            shutil.rmtree(old, ignore_errors=True)

    def restore(self) -> dict[str, Any] | None:
        """Restores the newest readable checkpoint and renames newer, damaged ones to damaged-<frames>.

        Logs a warning for every damaged checkpoint.

        Returns:
          The state saved with the checkpoint, or None if there is no checkpoint.

        Raises:
          UserError: there are checkpoints, but none can be read.
        """

        def read(path: pathlib.Path) -> None:
            self._checkpoint.read(str(path / "variables")).assert_consumed()

        path, state = read_newest(self._folder, read)
        if path is not None:
            for damaged in saved(self._folder):
                if damaged == path:
                    break
                damaged.rename(damaged.with_name(f"damaged-{damaged.name}"))
        return state


def reason_of(error: OSError | tf.errors.OpError) -> str:
    """Returns why a file could not be written, in a few words, as the operating system says it."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    # TensorFlow: "{{function_node ...}} <path>; <the system's words> [Op:SaveV2]", and further lines.
    words = error.message.strip().partition("\n")[0].rpartition("; ")[2].partition(" [Op:")[0]
    return words[:100] or type(error).__name__


def read_newest(
    folder: pathlib.Path, read: Callable[[pathlib.Path], None]
) -> tuple[pathlib.Path | None, dict[str, Any] | None]:
    """Reads the newest readable checkpoint, and logs a warning for every damaged one that it skips.

    Args:
      folder: folder of the checkpoints.
      read: reads the variables of a checkpoint; any exception it raises means that the checkpoint is damaged.

    Returns:
      The checkpoint's path and the state saved with it; (None, None) if there is no checkpoint.

    Raises:
      UserError: there are checkpoints, but none can be read.
    """
    paths = saved(folder)
    for path in paths:
        try:
            state = json.loads((path / "state.json").read_text())
            read(path)
        except Exception as error:  # TensorFlow raises many types for damage.
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            _LOGGER.warning("checkpoint %s is damaged (%s); trying the one before it", path, reason)
            continue
        return path, state
    if paths:
        raise UserError(
            f"None of the {len(paths)} checkpoints in {folder} can be read. Put back a good one, or move that folder "
            "away to start from scratch, which keeps the run's logs under another name."
        )
    return None, None

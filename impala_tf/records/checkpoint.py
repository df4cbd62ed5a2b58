"""Checkpoints of a learner: parameters, optimiser slots, learner step, frames and what else continues a run.

The position in the learning rate's schedule is the frame count. Randomness needs no state of its own: the actors' seeds
are derived from the run's seed, the actor's number and the learner step at which the actor started.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from impala_tf.errors import UserError
from impala_tf.records.logdir import saved, write_json


class Checkpointer:
    """Saves and restores a `tf.Module`'s or trackable's variables together with a small dict.

    A checkpoint is a folder `checkpoints/<frames>`. It is written under another name and renamed when it is complete
    and on disk, so that a folder with a number for a name is a whole checkpoint.
    """

    def __init__(self, folder: pathlib.Path, keep: int, **trackables: Any):
        """Args:
        folder: of the checkpoints; made if it is missing.
        keep: how many checkpoints to keep; older ones are removed.
        **trackables: what is saved, by name.
        """
        self._folder, self._keep = folder, keep
        self._checkpoint = tf.train.Checkpoint(**trackables)
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, frames: int, state: dict[str, Any]) -> None:
        """Writes a checkpoint.

        Args:
          frames: environment frames so far; the checkpoint's name.
          state: JSON-able dict that `restore` gives back.

        Raises:
          OSError, tf.errors.OpError: it could not be written; earlier checkpoints are untouched.
        """
        partial = self._folder / f".partial-{frames:012d}"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir()
            self._checkpoint.write(str(partial / "variables"))
            write_json(partial / "state.json", state)
            for file in partial.iterdir():
                with open(file, "rb") as opened:
                    os.fsync(opened.fileno())
            final = self._folder / f"{frames:012d}"
            if final.exists():
                shutil.rmtree(final)
            partial.rename(final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        for old in saved(self._folder)[self._keep :]:
            shutil.rmtree(old, ignore_errors=True)

    def restore(self, say: Callable[[str], None]) -> dict[str, Any] | None:
        """Restores the newest checkpoint that can be read; newer ones are then out of the way, as damaged-<frames>.

        Args:
          say: told of every checkpoint that is damaged and passed over.

        Returns:
          The state that was saved with it, or None if there is no checkpoint.

        Raises:
          UserError: there are checkpoints and none can be read.
        """

        def read(path: pathlib.Path) -> None:
            self._checkpoint.read(str(path / "variables")).assert_consumed()

        path, state = read_newest(self._folder, read, say)
        if path is not None:
            for damaged in saved(self._folder):
                if damaged == path:
                    break
                damaged.rename(damaged.with_name(f"damaged-{damaged.name}"))
        return state


def read_newest(
    folder: pathlib.Path, read: Callable[[pathlib.Path], None], say: Callable[[str], None]
) -> tuple[pathlib.Path | None, dict[str, Any] | None]:
    """Reads the newest checkpoint that can be read.

    Args:
      folder: of the checkpoints.
      read: reads the variables of one, and raises whatever it likes where that cannot be done.
      say: told of every checkpoint that is damaged and passed over.

    Returns:
      The checkpoint and the state that was saved with it; None and None if there is no checkpoint.

    Raises:
      UserError: there are checkpoints and none can be read.
    """
    paths = saved(folder)
    for path in paths:
        try:
            state = json.loads((path / "state.json").read_text())
            read(path)
        except Exception as error:  # Damage has many faces: TensorFlow raises at least six types for it.
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            say(f"checkpoint {path} is damaged ({reason}); trying the one before")
            continue
        return path, state
    if paths:
        raise UserError(f"None of the {len(paths)} checkpoints in {folder} can be read. Move it away to start afresh.")
    return None, None

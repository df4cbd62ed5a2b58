"""Whether a learner's machine sees the run's folder, as the driver does: it must be on storage that both share."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from typing import Any

from impala_tf.errors import UserError
from impala_tf.files import replacing
from impala_tf.processes import parent
from impala_tf.records.logdir import LogDir

_MARK = ".driver"
_LOGGER = logging.getLogger(__name__)
_LOCK_SECONDS = 120.0  # NFS version 4 keeps the locks of a machine that is lost for 90 s.
_SEEN_SECONDS = 10.0  # A file server may show a file to other machines a moment late.
LONGEST_SECONDS = _SEEN_SECONDS + _LOCK_SECONDS  # For which `run_there` puts off a learner's work.


def mark(logdir: LogDir) -> str:
    """Marks the folder with a token of this start of the run, and returns it.

    Raises:
      UserError: another run uses the folder.
    """
    token = uuid.uuid4().hex
    with logdir.lock(), replacing(logdir.path / _MARK) as partial:
        partial.write_text(token)
    return token


def run_there(logdir: str, token: str, frames: int, machine: str, work: Callable[[int], Any], starts: int) -> Any:
    """Runs a learner's work, if its machine sees the folder with all that has been saved there.

    Args:
      logdir: path of the folder.
      token: what `mark` returned.
      frames: of the newest checkpoint that the driver knows of.
      machine: address of the learner's machine, for messages.
      work: as in `Node`.
      starts: its argument.

    Raises:
      UserError: the folder is another one, or lacks the checkpoint; or as for `work`.
    """
    folder, deadline = LogDir(logdir), time.monotonic() + _SEEN_SECONDS
    while not _has(folder, token) or folder.frames < frames:
        if time.monotonic() < deadline:
            time.sleep(0.2)
        elif not _has(folder, token):
            raise UserError(
                f"--logdir={logdir} on {machine}, where Ray has placed the learner, is not the folder of this name on "
                "the machine of the command: it must be on storage that all machines share."
            )
        else:
            raise UserError(
                f"--logdir={logdir} holds checkpoints up to {folder.frames:,} frames, and one at {frames:,} was "
                f"written: it is missing on {machine}. Training does not begin again below it."
            )
    _wait_for_lock(folder)
    return work(starts)


def _wait_for_lock(folder: LogDir) -> None:
    """Waits while a learner that is lost still holds the folder's lock, as file servers let it for a while.

    Whoever holds it longer is another run, which the work itself will say.
    """
    deadline, said = time.monotonic() + _LOCK_SECONDS, False
    while time.monotonic() < deadline:
        parent.beat()
        try:
            folder.lock().close()
            return
        except UserError:
            if not said:
                _LOGGER.info("waiting for the lock of --logdir=%s, which a lost learner may still hold", folder.path)
            said = True


def _has(folder: LogDir, token: str) -> bool:
    try:
        return (folder.path / _MARK).read_text() == token
    except OSError:
        return False

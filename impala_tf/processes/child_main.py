"""What a `Child` runs in its process, around the work."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import logging
import multiprocessing
import os
import pathlib
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from impala_tf.errors import UserError, one_line
from impala_tf.processes import imports, parent, signals
from impala_tf.processes.lifeline import hold
from impala_tf.processes.parent import ChildFailed, Outcome

_PR_SET_NAME = 15
_kept: list[Connection] = []  # Files that stay open until the process ends.


def run(
    line: Connection,
    lifeline: Connection,
    name: str,
    log: pathlib.Path | None,
    forward: int,
    orderly: bool,
    work: Callable[..., Any],
    args: tuple,
) -> None:
    """Does the work and sends its outcome to the parent.

    Ends the process with status 2 if the work raised `UserError`, and 1 if it raised anything else.

    Args:
      line: writing end of the pipe for records.
      lifeline: reading end of a pipe that hangs up when the parent ends.
      name, log, forward, orderly, work, args: as in `Child`.
    """
    os.setsid()
    # Until here they were blocked, for they may have been meant for the parent's group. SIGINT still is.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {*signals.STOP} - {signal.SIGINT})
    _kept.append(lifeline)
    hold(lifeline.fileno(), signal.SIGTERM if orderly else signal.SIGKILL, group=not orderly)
    parent.connect(line)
    # In the child only: daemons may not have children, and environments may need processes of their own.
    multiprocessing.current_process().daemon = False
    _set_name(name)
    imports.done()  # The fork server's, which has turned collections off for them.
    has_log = False
    try:
        has_log = _start_logging(log, forward)
        parent.finish(Outcome(work(*args), None))
        return
    except UserError as error:
        if has_log:
            print(f"ERROR: {error}", file=sys.stderr, flush=True)
        failure: Exception = type(error)(str(error))
    except (Exception, SystemExit) as error:  # An environment may call sys.exit.
        if has_log:
            traceback.print_exc()
        failure = ChildFailed(one_line(error))
    outcome = Outcome(None, failure)
    parent.finish(outcome)
    sys.exit(status_of(outcome))


def status_of(outcome: Outcome) -> int:
    """The exit status of a process whose work has ended in this way."""
    if outcome.error is None:
        return 0
    return 2 if isinstance(outcome.error, UserError) else 1


def _start_logging(log: pathlib.Path | None, forward: int) -> bool:
    """Sends the package's log lines to the parent from level `forward` on and, where there is one, to the log file.

    Returns:
      Whether standard error is a log file now.

    Raises:
      UserError: the log file cannot be opened: its folder has been removed, for example.
    """
    logger = logging.getLogger("impala_tf")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers = [parent.ToParent(forward)]
    if log is not None:
        try:
            with open(log, "ab") as file:
                os.dup2(file.fileno(), 2)
        except OSError as error:
            raise UserError(f"The log file {log} cannot be opened: {error.strerror}.") from None
        to_file = logging.StreamHandler(sys.stderr)
        to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.handlers.append(to_file)
    faulthandler.enable()
    return log is not None


def _set_name(name: str) -> None:
    """Sets the name that `top` and `ps -o comm` show; on Linux only."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode()[:15])

"""What a child process owes its parent: to end when the parent ends, and to say that it is at work."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time

READY = "ready"
"""What an actor's process prints on its standard output once its first unrolls have been taken."""


_SUPERVISOR = "IMPALA_TF_SUPERVISOR"


def supervised_environment() -> dict[str, str]:
    """Environment variables for the processes that this one is to outlive."""
    return {**os.environ, _SUPERVISOR: str(os.getpid())}


def supervised() -> bool:
    """Whether a supervisor started this process; to be asked before `end_with_supervisor`."""
    return _SUPERVISOR in os.environ


def end_with_supervisor(sig: int = signal.SIGKILL) -> None:
    """Asks for `sig` when the supervisor ends. A process that was started by hand may outlive its shell.

    It may come more than once: Linux sends it for each of the supervisor's threads that the process is handed on to.
    """
    if supervisor := os.environ.pop(_SUPERVISOR, None):
        end_with_parent(sig, int(supervisor))


def end_with_parent(sig: int = signal.SIGKILL, parent: int | None = None) -> None:
    """Asks for `sig` when the parent process ends: from the kernel on Linux, by looking at the parent elsewhere.

    Args:
      sig: the signal.
      parent: process id of the parent, for a caller who knows it: it may have ended before this call.
    """
    parent = parent or os.getppid()
    try:
        pr_set_pdeathsig = 1
        asked = ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, sig) == 0
    except (AttributeError, OSError):
        asked = False
    if asked and os.getppid() == parent:
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.kill(os.getpid(), sig)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()

"""The fork server: a process that has imported what `preload` names, and forks the children of this one.

TensorFlow may be forked after it has been imported, but not after it has computed anything.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import multiprocessing.util
import os
import pathlib
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from impala_tf.processes import signals
from impala_tf.processes.temporary import Folder

CONTEXT = multiprocessing.get_context("forkserver")
LOST = 255
"""What multiprocessing reports as a child's exit status when the fork server, which would know it, has ended."""

_SERVER: Any = multiprocessing.forkserver._forkserver
_LOOK_SECONDS = 0.1
_END_SECONDS = 1.0
_LONGEST_PATH = 89  # Of a folder for a socket: 107 bytes less the socket's name, listener-12345678.
_folders: list[Folder] = []  # For the children's files and, first, for the server's socket; may be the same.


def preload(modules: Sequence[str]) -> None:
    """Names the modules that the fork server imports, once for all children. Call it before the first child starts."""
    CONTEXT.set_forkserver_preload(["impala_tf.processes.quick_imports", *modules])


def start_tracker() -> None:
    """Starts multiprocessing's resource tracker, if it does not run. It ignores SIGINT and SIGTERM by itself.

    Call it before blocking signals: its start unblocks those two, whatever the mask was.
    """
    with signals.blocked():
        multiprocessing.resource_tracker.ensure_running()


def ensure_running() -> None:
    """Starts the fork server if it does not run; does not wait for its imports.

    Signals to this process's group are for this process to handle: the server and, until they unblock them, its
    children have the signals in `signals.STOP` blocked. It is killed when this process exits. Its children's temporary
    files are in a folder of this process, which is removed with it: libraries leave some behind.
    """
    if not _folders:
        files = Folder()
        sockets = files if len(os.fsencode(files.path)) <= _LONGEST_PATH else Folder("/tmp")
        _folders.extend((sockets, files))
        multiprocessing.util.Finalize(None, _end, exitpriority=-50)  # After the children.
        # For the server's socket: multiprocessing's own folder would stay behind if this process was killed.
        multiprocessing.current_process()._config["tempdir"] = str(sockets.path)  # type: ignore[attr-defined]
    start_tracker()
    with signals.blocked(), _temporary_files_in(_folders[-1].path):
        _SERVER.ensure_running()


@contextlib.contextmanager
def _temporary_files_in(folder: pathlib.Path) -> Iterator[None]:
    """Sets TMPDIR for processes that are started meanwhile."""
    old = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder)
    try:
        yield
    finally:
        if old is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = old


def kill() -> None:
    """Kills the fork server, which ends any wait for it; the next child that starts gets a new one."""
    pid = _SERVER._forkserver_pid
    if pid is None:
        return
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        # Until it has ended, multiprocessing would take it for one that works. It is left for multiprocessing to reap.
        end = time.monotonic() + _END_SECONDS
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None and time.monotonic() < end:
            time.sleep(0.001)


@contextlib.contextmanager
def killed_after(seconds: float, stop: threading.Event | None = None) -> Iterator[None]:
    """Bounds a wait for the fork server: kills it after `seconds`, or once `stop` is set.

    Starting a child waits until the server has imported its modules, for which multiprocessing has no deadline.
    """
    done, end = threading.Event(), time.monotonic() + seconds

    def watch() -> None:
        while not done.wait(_LOOK_SECONDS):
            if time.monotonic() > end or (stop is not None and stop.is_set()):
                kill()
                return

    thread = threading.Thread(target=watch, name="fork-server-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _end() -> None:
    """Ends the server at once; by itself, it would take seconds to unload what it has imported."""
    kill()
    with contextlib.suppress(OSError):
        _SERVER._stop()
    for folder in _folders:
        folder.close()

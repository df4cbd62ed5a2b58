"""Work for children in tests, importable in their processes."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from impala_tf.errors import UserError
from impala_tf.processes import imports, parent
from impala_tf.processes.child import FORK_SERVER, SPAWN, Child

CONTEXTS = {"spawn": SPAWN, "forkserver": FORK_SERVER}


class Unpicklable(Exception):
    def __reduce__(self):
        raise TypeError("cannot be sent")


def fail(how: str) -> Any:
    """Ends in one of many ways."""
    if how == "user error":
        raise UserError("no such\nlevel")
    if how == "raise":
        raise Unpicklable("no\nway")
    if how == "unpicklable answer":
        return lambda: None
    if how == "exit":
        sys.exit(3)
    if how == "os exit":
        os._exit(4)
    if how == "crash":
        ctypes.string_at(0)
    return None


def add(a: int, b: int) -> int:
    return a + b


def zeros(size: int) -> bytes:
    return bytes(size)


def sleep(path: str | None = None) -> None:
    """Writes its process, and one that it starts, into a file."""
    if path is not None:
        note(path, start_engine())
    time.sleep(600)


def hang(path: str) -> None:
    """Like `sleep`, but with the interpreter's lock held."""
    note(path, start_engine())
    ctypes.PyDLL(None).sleep(600)


def ignore_sigterm(path: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sleep(path)


def save_on_sigterm(path: str) -> None:
    """Writes "saved" next to `path` when it is told to end."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    note(path)
    while not stop.wait(0.02):
        pass
    pathlib.Path(f"{path}.saved").write_text("saved")


def crash_with_open_files(path: str, how: str) -> None:
    """Leaves a program or a fork of this process behind that has inherited its open files."""
    other = start_engine(close_fds=False) if how == "exec" else os.fork()
    if other == 0:
        time.sleep(600)
    note(path, other)
    ctypes.string_at(0)


def nest(path: str, how: str, context: str) -> None:
    """Starts a child of its own, then ends or waits for its end."""
    child = Child("inner", sleep, f"{path}.inner", context=CONTEXTS[context])
    while not pathlib.Path(f"{path}.inner").exists():
        time.sleep(0.02)
    note(path)
    if how == "wait":
        time.sleep(600)
    fail(how)
    assert child.status is None


def log(*, pause: bool = False) -> None:
    logger = logging.getLogger("impala_tf.test")
    logger.info("quiet")
    logger.warning("loud %d", 1)
    parent.send(parent.Ready())
    parent.send(parent.Spent({"a": 1.5}, 2.0))
    if pause:
        time.sleep(600)


def log_much(path: str) -> int:
    for number in range(3000):
        logging.getLogger("impala_tf").warning("%d %s", number, "\N{SNOWMAN}" * 2000)
    note(path)
    return 7


def signal_masks() -> tuple[set[int], int]:
    """Signals blocked here, and, as a bit mask, in the process that this one was forked from."""
    status = pathlib.Path(f"/proc/{os.getppid()}/status").read_text()
    blocked = next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk"))
    return set(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))), int(blocked, 16)


def start_engine(**options: Any) -> int:
    """Starts a program, as environments start their engines; returns its process id."""
    return subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"], **options).pid


def note(path: str, *pids: int) -> None:
    """Writes process ids, its own first, into a file that appears whole."""
    part = pathlib.Path(f"{path}.part")
    part.write_text(" ".join(map(str, [os.getpid(), *pids])))
    part.rename(path)


def noted(path: pathlib.Path, seconds: float = 60.0) -> list[int]:
    """Waits for the file; returns the process ids in it."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    return list(map(int, path.read_text().split()))


def all_end(pids: list[int], seconds: float = 10.0) -> bool:
    """Waits for processes to end, whoever their parents are."""
    end = time.monotonic() + seconds
    while any(map(is_running, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(map(is_running, pids))


def is_running(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def fail_late(path: str) -> None:
    """Fails once there is a file `path`.now."""
    note(path)
    while not pathlib.Path(f"{path}.now").exists():
        time.sleep(0.02)
    fail("user error")


def beat_for(seconds: float) -> None:
    end = time.monotonic() + seconds
    parent.send(parent.Ready())
    while time.monotonic() < end:
        parent.beat()
        time.sleep(0.02)
    time.sleep(600)


def importing() -> tuple[list[str], bool, bool]:
    """Names of libraries left out of the fork server's imports; whether pandas can be imported during and after one."""
    found, during = [name for name in ("h5py", "pandas", "scipy") if name in sys.modules], True
    with imports.quickly():
        try:
            import pandas
        except ImportError:
            during = False
    import pandas

    with imports.quickly():
        import pandas
    return found, during, pandas.DataFrame({"a": [1]})["a"].tolist() == [1]


def collecting() -> tuple[bool, bool, bool, int, int]:
    """Whether garbage is collected: at work, in imports, after imports that failed; frozen objects first and last."""
    at_work, frozen_first = gc.isenabled(), gc.get_freeze_count()
    try:
        with imports.quickly():
            importing = gc.isenabled()
            raise ImportError
    except ImportError:
        return at_work, importing, gc.isenabled(), frozen_first, gc.get_freeze_count()

"""Work of tiny programs, importable in their processes. Files in a folder show what happened."""

from __future__ import annotations

import logging
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

from impala_tf.errors import UserError
from impala_tf.processes import parent

LOGGER = logging.getLogger("impala_tf.fake")


def note(folder: pathlib.Path, name: str, *pids: int) -> None:
    """Writes process ids, its own first, into a file that appears whole."""
    part = folder / f"{name}.{os.getpid()}.part"
    part.write_text(" ".join(map(str, [os.getpid(), *pids])))
    part.rename(folder / name)


def wait_for(path: pathlib.Path) -> None:
    while not path.exists():
        time.sleep(0.02)


def learn_until(folder: pathlib.Path, name: str, _starts: int) -> None:
    """Ends well when there is a file of that name."""
    note(folder, "learner")
    LOGGER.info("learning")
    wait_for(folder / name)
    LOGGER.info("learned")


def learn_and_end(folder: pathlib.Path, how: str, _starts: int) -> None:
    """Ends badly."""
    note(folder, "learner")
    wait_for(folder / "actor 0, start 0")
    if how == "user error":
        raise UserError("the disk is full")
    if how == "exception":
        raise ValueError("no\nshape")
    if how == "segfault":
        signal.raise_signal(signal.SIGSEGV)


def learn_and_save(folder: pathlib.Path, _starts: int) -> bool:
    """Saves when it gets SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    parent.send(parent.Ready())
    note(folder, "learner")
    while not stop.wait(0.02):
        pass
    LOGGER.info("saved")
    note(folder, "saved")
    return True


def learn_and_ignore(folder: pathlib.Path, _starts: int, ready: bool = True) -> None:
    """Cannot be asked to end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if ready:
        parent.send(parent.Ready())
    note(folder, "learner", engine())
    time.sleep(600)


def sleep(folder: pathlib.Path, _starts: int) -> None:
    note(folder, "learner")
    time.sleep(600)


def act(folder: pathlib.Path, name: str, starts: int) -> None:
    """Acts with a program of its own, as environments have."""
    note(folder, f"{name}, start {starts}", engine())
    parent.send(parent.Ready())
    time.sleep(600)


def act_alone(folder: pathlib.Path, name: str, starts: int) -> None:
    note(folder, f"{name}, start {starts}")
    parent.send(parent.Ready())
    time.sleep(600)


def act_and_beat(folder: pathlib.Path, name: str, starts: int) -> None:
    parent.send(parent.Ready())
    note(folder, f"{name}, start {starts}")
    while True:
        parent.beat()
        time.sleep(0.05)


def act_once(folder: pathlib.Path, name: str, starts: int) -> None:
    """Works at its first start only."""
    note(folder, f"{name}, start {starts}")
    if starts == 0:
        parent.send(parent.Ready())
    if starts >= 2:
        note(folder, "enough")
        time.sleep(600)
    raise UserError("no such level")


def act_and_report(folder: pathlib.Path, name: str, starts: int) -> None:
    LOGGER.info("quiet")
    LOGGER.warning("loud")
    for seconds in (1.0, 2.5):
        parent.send(parent.Spent({"environment": seconds}, 4.0))
        wait_for(folder / f"spent {seconds}")
    act(folder, name, starts)


def act_and_end(folder: pathlib.Path, name: str, ready: bool, how: str, starts: int) -> None:
    """Ends at its first two starts."""
    note(folder, f"{name}, start {starts}")
    if ready or starts >= 2:
        parent.send(parent.Ready())
    if starts >= 2:
        note(folder, "enough")
        time.sleep(600)
    if how == "user error":
        raise UserError("no such level")
    if how == "exception":
        raise RuntimeError("the dice\nare lost")
    if how == "signal":
        os.kill(os.getpid(), signal.SIGKILL)


def act_and_fail_with_the_learner(folder: pathlib.Path, _starts: int) -> None:
    """Fails a moment before the learner ends."""
    wait_for(folder / "learner")
    note(folder, "actor 0")
    raise UserError("the learner is gone")


def engine() -> int:
    return subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"]).pid


def learn_after(folder: pathlib.Path, name: str, seconds: float, _starts: int) -> None:
    """Ends well, `seconds` after there is a file of that name."""
    note(folder, "learner")
    wait_for(folder / name)
    time.sleep(seconds)


def is_running(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def learn_for(folder: pathlib.Path, seconds: float, _starts: int) -> None:
    """Works, and shows it, for some time."""
    parent.send(parent.Ready())
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        parent.beat()
        time.sleep(0.02)


def miss_the_learner(folder: pathlib.Path, _starts: int) -> None:
    """Finds after a second that there is no learner."""
    time.sleep(1.0)
    raise UserError("no learner answers")

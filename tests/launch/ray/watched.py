"""A run on a cluster that is watched from outside: its frames, its output, its processes."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence

from clusters import PYTHONPATH, running

FLAGS = (
    *("--setup=catch", "--cluster=ray", "--envs_per_actor=8", "--log_interval=0.5", "--checkpoint_interval=3"),
    *("--seed=1", "--connect_timeout=20"),
)


class Run:
    """A run on a cluster, and what is known of its processes, which carry a mark in their environment."""

    def __init__(self, folder: pathlib.Path, learners: int, actors: int):
        self.folder, self.logdir, self.actors = folder, folder / "run", actors
        self.mark = f"IMPALA_TF_FAULTS={uuid.uuid4()}"
        self.environment = dict([self.mark.split("=")])
        self.leader = "learner" if learners == 1 else "learner 0"
        self.flags = (*FLAGS, f"--num_learners={learners}", f"--num_actors={actors}", f"--logdir={self.logdir}")
        self.writers, self._watching = 0, threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()
        self.process: subprocess.Popen | None = None
        self.output = folder / "output"

    def start(self, address: str, *more: str, before: Sequence[str] = ()) -> None:
        """Starts the command, preceded by `before`; it goes on with the run, if there is one."""
        command = [*before, sys.executable, "-u", "-m", "run.train", *self.flags, f"--address={address}", *more]
        if not any(flag.startswith("--total_frames") for flag in more):
            command.append("--total_frames=1000000000000")
        with open(self.output, "ab") as out:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**os.environ, **self.environment, "PYTHONPATH": PYTHONPATH},
            )

    @property
    def frames(self) -> int:
        """Frames in the last whole row of progress.csv."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            lines = (self.logdir / "progress.csv").read_text().split("\n")
            column = lines[0].split(",").index("frames")
            return int(float(lines[-2].split(",")[column]))
        return 0

    @property
    def saved(self) -> int:
        """Frames of the newest checkpoint."""
        return max((int(p.name) for p in (self.logdir / "checkpoints").glob("[0-9]*")), default=0)

    def all_act(self, since: int = 0) -> bool:
        """Whether the last progress line after `since` bytes of output says that all actors act."""
        found = self.acting(since)
        return bool(found) and found[-1] >= self.actors

    def acting(self, since: int) -> list[int]:
        """The numbers of actors in the progress lines after `since` bytes of output."""
        found = re.findall(r" frames \(.* learners?, (\d+)(?: of \d+)? actors?, ", self.said(since))
        return list(map(int, found))

    def said(self, since: int = 0) -> str:
        return self.output.read_bytes()[since:].decode(errors="replace") if self.output.exists() else ""

    def until(self, condition: Callable[[], object], seconds: float) -> float | None:
        """Waits; returns the seconds that it took, or None if it did not happen in time."""
        start = time.monotonic()
        while not condition():
            if time.monotonic() - start > seconds:
                return None
            time.sleep(0.05)
        return time.monotonic() - start

    def processes(self, name: str = "") -> list[int]:
        """Ids of the run's processes of that name, or of all that carry its mark."""
        return [pid for pid, other in running(self.mark).items() if name in ("", other)]

    def close(self) -> None:
        self._watching.set()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _watch(self) -> None:
        while not self._watching.wait(0.1):
            found = self.processes(self.leader)
            with contextlib.suppress(OSError, IndexError):  # One of them has just ended.
                # A learner that starts a program is, for a moment, two of its name. Those that are stopped do nothing.
                active = [pid for pid in found if parent(pid) not in found and state(pid) != "T"]
                self.writers = max(self.writers, len(active))


def parent(pid: int) -> int:
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def state(pid: int) -> str:
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def raylet(pid: int) -> int:
    """The raylet that a process belongs to."""
    entries = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next(int(entry.split(b"=")[1]) for entry in entries if entry.startswith(b"RAY_RAYLET_PID="))


def of_node(run: Run, number: int) -> list[int]:
    """The processes of a node, its raylet first."""
    found = [number]
    for pid in run.processes():
        with contextlib.suppress(OSError, StopIteration):
            if raylet(pid) == number:
                found.append(pid)
    return found

"""Starts the real program in processes of its own and finds what it leaves running."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[2]


class Started:
    """The program, started.

    Attributes:
      process: its process; for a whole run that is the supervisor.
      logdir: value of its --logdir, None without one.
    """

    def __init__(self, folder: pathlib.Path, arguments: tuple[str, ...], environment: dict[str, str], command: list):
        self._output = [folder / "stdout", folder / "stderr"]
        # Its processes are forked, with the same command line; they all inherit this.
        self._mark = f"IMPALA_TF_TEST={uuid.uuid4()}"
        self._start = time.monotonic()
        self.logdir = next((pathlib.Path(a.split("=", 1)[1]) for a in arguments if a.startswith("--logdir=")), None)
        path = os.pathsep.join(filter(None, [environment.get("PYTHONPATH"), str(ROOT), os.environ.get("PYTHONPATH")]))
        with open(self._output[0], "wb") as out, open(self._output[1], "wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, *command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=folder,
                env={**os.environ, **environment, "PYTHONPATH": path, **dict([self._mark.split("=")])},
            )

    @property
    def out(self) -> str:
        """Its standard output so far; its children's is part of it."""
        return self._output[0].read_text()

    @property
    def err(self) -> str:
        """Its standard error so far."""
        return self._output[1].read_text()

    @property
    def seconds(self) -> float:
        """Since its start."""
        return time.monotonic() - self._start

    def finish(self, timeout: float) -> int:
        """Waits for its end; returns the exit status."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {timeout} s\n{self.describe()}")

    def wait_until(self, condition: Callable[[], object], timeout: float, every: float = 0.02) -> None:
        """Waits until `condition()`, asked `every` so many seconds, holds while the program runs."""
        deadline = time.monotonic() + timeout
        while not condition():
            if self.process.poll() is not None:
                pytest.fail(f"ended with {self.process.returncode}\n{self.describe()}")
            if time.monotonic() > deadline:
                pytest.fail(f"did not happen in {timeout} s\n{self.describe()}")
            time.sleep(every)

    def children(self, name: str) -> list[int]:
        """Process ids of the run's processes of that name: "learner", "actor 0"."""
        return [pid for pid, other in running(self._mark).items() if other == name]

    def wait_until_gone(self, timeout: float = 5.0) -> None:
        """Waits until no process of the run is left; the one that forked the others ends a moment later."""
        deadline = time.monotonic() + timeout
        while left := running(self._mark):
            if time.monotonic() > deadline:
                pytest.fail(f"still running after {timeout} s: {left}\n{self.describe()}")
            time.sleep(0.05)

    def describe(self) -> str:
        """Its output and its processes' logs, for failure messages."""
        logs = sorted((self.logdir / "logs").glob("*")) if self.logdir else []
        return "\n".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in [*self._output, *logs])

    def kill(self) -> None:
        """Ends it and all processes of its run."""
        for pid in [self.process.pid, *running(self._mark)]:
            if pid != self.process.pid or self.process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()


def running(variable: str) -> dict[int, str]:
    """{process id: name} of all processes that started with this environment variable, given as name=value."""
    found = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # It ended just now.
            if variable.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found[int(folder.name)] = (folder / "comm").read_text().strip()
    return found


def one_error(started: Started) -> str:
    """The one line on its standard error, which must be an error without a traceback."""
    lines = started.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("ERROR: "), started.describe()
    assert "Traceback" not in started.out, started.describe()
    return lines[0].removeprefix("ERROR: ")


def _starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Started]]:
    runs: list[Started] = []

    def start(*arguments: str, environment: dict[str, str] | None = None, command: tuple = ("-m", "run.train")):
        runs.append(Started(tmp_path_factory.mktemp("output"), arguments, environment or {}, list(command)))
        return runs[-1]

    yield start
    for started in runs:
        started.kill()


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Started]]:
    """`start(*flags)` runs the program; what still runs at the end of the test is killed."""
    yield from _starter(tmp_path_factory)


@pytest.fixture(scope="module")
def start_shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Started]]:
    """As `start`, for runs that the tests of a module share."""
    yield from _starter(tmp_path_factory)


@pytest.fixture
def error_of() -> Callable[..., str]:
    """`error_of(started, within=seconds)`: the one line with which the program fails."""

    def check(started: Started, within: float) -> str:
        assert started.finish(within) > 0, started.describe()
        return one_error(started)

    return check


@pytest.fixture(scope="session")
def frames_saved() -> Callable[[pathlib.Path], list[int]]:
    """Frames of the complete checkpoints in a log directory, oldest first."""
    return lambda logdir: sorted(int(path.name) for path in (logdir / "checkpoints").glob("[0-9]*"))


@pytest.fixture(scope="session")
def resumed_at() -> Callable[[Started], tuple[int, int]]:
    """(frames, learner step) that a run says it resumes at."""

    def read(started: Started) -> tuple[int, int]:
        found = re.search(r"resuming .* at ([\d,]+) frames, learner step ([\d,]+)", started.out)
        assert found, started.describe()
        return tuple(int(number.replace(",", "")) for number in found.groups())

    return read

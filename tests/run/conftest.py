"""Runs the commands as processes and finds the processes that they leave behind."""

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

sys.path.append(str(pathlib.Path(__file__).parent))

from warm import MARK, Command, Warm

ROOT = pathlib.Path(__file__).parents[2]


class Started:
    """A command that has been started.

    Attributes:
      process: the command's process; for a whole run, the launcher.
      logdir: the value of --logdir; None if it was not given.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        arguments: tuple[str, ...],
        environment: dict[str, str],
        command: list,
        group: bool = False,
        warm: Warm | None = None,
    ):
        self._output = [folder / "stdout", folder / "stderr"]
        # Identifies the command's descendants, which inherit its environment.
        mark = str(uuid.uuid4())
        self._mark = f"{MARK}={mark}"
        self._start = time.monotonic()
        self.logdir = next((pathlib.Path(a.split("=", 1)[1]) for a in arguments if a.startswith("--logdir=")), None)
        path = os.pathsep.join(filter(None, [environment.get("PYTHONPATH"), str(ROOT), os.environ.get("PYTHONPATH")]))
        env = {**os.environ, **environment, "PYTHONPATH": path, MARK: mark}
        with open(self._output[0], "wb") as out, open(self._output[1], "wb") as err:
            self.process: subprocess.Popen | Command
            if warm is not None and command[0] in ("-m", "-c"):
                output = out.fileno(), err.fileno()
                self.process = warm.start([*command, *arguments], output, folder, env, group)
            else:
                env.pop("TF_ENABLE_ONEDNN_OPTS", None)  # Users have TensorFlow's default.
                self.process = subprocess.Popen(
                    [sys.executable, *command, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    cwd=folder,
                    env=env,
                    start_new_session=group,
                )

    @property
    def out(self) -> str:
        """Standard output so far, including the child processes'."""
        return self._output[0].read_text()

    @property
    def err(self) -> str:
        """Standard error so far."""
        return self._output[1].read_text()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def finish(self, timeout: float) -> int:
        """Waits for the command to end; returns its exit status."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {timeout} s\n{self.describe()}")

    def wait_until(self, condition: Callable[[], object], timeout: float, every: float = 0.02) -> None:
        """Waits until `condition()` is true, checked every `every` seconds; fails if the command ends before."""
        deadline = time.monotonic() + timeout
        while not condition():
            if self.process.poll() is not None:
                pytest.fail(f"ended with {self.process.returncode}\n{self.describe()}")
            if time.monotonic() > deadline:
                pytest.fail(f"did not happen in {timeout} s\n{self.describe()}")
            time.sleep(every)

    def children(self, name: str) -> list[int]:
        """Returns the ids of the run's processes with a name, such as "learner" or "actor 0"."""
        return [pid for pid, other in running(self._mark).items() if other == name]

    def all_processes(self) -> dict[int, str]:
        """Returns {process id: name} of the run's processes, the command's own included."""
        return running(self._mark)

    def wait_until_gone(self, timeout: float = 5.0) -> None:
        """Waits until no process of the run is left; the fork server ends a moment after the others."""
        deadline = time.monotonic() + timeout
        while left := running(self._mark):
            if time.monotonic() > deadline:
                pytest.fail(f"still running after {timeout} s: {left}\n{self.describe()}")
            time.sleep(0.05)

    def describe(self) -> str:
        """Formats the output and the processes' logs, for failure messages."""
        logs = sorted((self.logdir / "logs").glob("*")) if self.logdir else []
        return "\n".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in [*self._output, *logs])

    def kill(self) -> None:
        """Kills the command and all of its processes."""
        for pid in [self.process.pid, *running(self._mark)]:
            if pid != self.process.pid or self.process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()


def running(variable: str) -> dict[int, str]:
    """Returns {process id: name} of all processes with an environment variable, given as name=value."""
    found = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # The process has just ended.
            if variable.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found[int(folder.name)] = (folder / "comm").read_text().strip()
    return found


def one_error(started: Started) -> str:
    """Returns the only line on standard error, which must be an error message without a traceback."""
    lines = started.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("ERROR: "), started.describe()
    assert "Traceback" not in started.out, started.describe()
    return lines[0].removeprefix("ERROR: ")


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """Runs commands in forks of one process, the same for all workers."""
    process = Warm()
    yield process
    process.close()


def _starter(tmp_path_factory: pytest.TempPathFactory, warm: Warm) -> Iterator[Callable[..., Started]]:
    runs: list[Started] = []

    def start(
        *arguments: str,
        environment: dict[str, str] | None = None,
        command: tuple = ("-m", "run.train"),
        group: bool = False,  # Leads a process group, which can be signaled as a whole.
        cold: bool = False,  # Is started as by users, for tests of how it starts.
    ):
        folder, where = tmp_path_factory.mktemp("output"), environment or {}
        runs.append(Started(folder, arguments, where, list(command), group, None if cold else warm))
        return runs[-1]

    yield start
    for started in runs:
        started.kill()


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory, warm: Warm) -> Iterator[Callable[..., Started]]:
    """`start(*flags)` runs a command; whatever still runs at the end of the test is killed."""
    yield from _starter(tmp_path_factory, warm)


@pytest.fixture(scope="module")
def start_shared(tmp_path_factory: pytest.TempPathFactory, warm: Warm) -> Iterator[Callable[..., Started]]:
    """Like `start`, for runs shared by the tests of a module."""
    yield from _starter(tmp_path_factory, warm)


@pytest.fixture
def error_of() -> Callable[..., str]:
    """`error_of(started, within=seconds)` returns the one-line error with which a command fails."""

    def check(started: Started, within: float) -> str:
        assert started.finish(within) > 0, started.describe()
        return one_error(started)

    return check


@pytest.fixture(scope="session")
def frames_saved() -> Callable[[pathlib.Path], list[int]]:
    """Returns the frames of the complete checkpoints in a log directory, oldest first."""
    return lambda logdir: sorted(int(path.name) for path in (logdir / "checkpoints").glob("[0-9]*"))


@pytest.fixture(scope="session")
def resumed_at() -> Callable[[Started], tuple[int, int]]:
    """Returns (frames, learner step) from a run's message that it resumes."""

    def read(started: Started) -> tuple[int, int]:
        found = re.search(r"resuming .* at ([\d,]+) frames, learner step ([\d,]+)", started.out)
        assert found, started.describe()
        return tuple(int(number.replace(",", "")) for number in found.groups())

    return read

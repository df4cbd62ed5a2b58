"""Runs the whole system, which can be paused, and measures its processes."""

from __future__ import annotations

import csv
import dataclasses
import logging
import os
import pathlib
import re
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from impala_tf.architectures import table
from impala_tf.benchmark.setup import Setup
from impala_tf.errors import UserError
from impala_tf.launch import local
from impala_tf.processes.listing import descendants
from impala_tf.processes.parent import Spent
from impala_tf.processes.temporary import Folder
from impala_tf.records.logdir import LogDir

_START_SECONDS = 180.0
_TICKS = os.sysconf("SC_CLK_TCK")
_RUN_LOGGER = logging.getLogger("impala_tf.launch")  # What the launcher says itself, and what its processes say.


class _Process(NamedTuple):
    pid: int
    cpu_seconds: float
    peak_mib: float  # Resident; memory shared by forked processes is counted in each of them.


class WholeSystem:
    """A training run in a temporary folder. Use it in a `with` statement.

    Its processes can be paused (SIGSTOP, SIGCONT) to measure the parts in between. If this process dies during a pause,
    they are continued, notice that it is gone, and end.
    """

    def __init__(self, setup: Setup):
        """Starts the run."""
        self._folder = Folder()
        logdir = str(self._folder.path)
        setup = setup.with_run(logdir=logdir, total_frames=10**12, log_interval=0.5, checkpoint_interval=3600.0)
        patient = dataclasses.replace(setup.config.launch, connect_timeout=3600.0, stall_timeout=3600.0)
        setup = dataclasses.replace(setup, config=dataclasses.replace(setup.config, launch=patient))
        self._logdir = LogDir(logdir)
        self._logdir.check(setup.config)
        self._pauses: list[tuple[float, float]] = []
        self._paused_since = 0.0
        self._guard: subprocess.Popen | None = None
        self._error: UserError | None = None
        self._spent: dict[str, Spent] = {}
        self._stop = threading.Event()
        # Hide the run's progress lines, which would clutter the benchmark's own.
        self._log_level = _RUN_LOGGER.level
        _RUN_LOGGER.setLevel(logging.ERROR)
        self._thread = threading.Thread(target=self._run, args=(setup,), name="whole-system")
        self._thread.start()

    def _run(self, setup: Setup) -> None:
        program = table.program(setup.config, setup.tasks, setup.topology)
        try:
            local.run(program, self._logdir, self._stop, self._spent.__setitem__)
        except UserError as error:
            self._error = error

    def wait_until_running(self) -> None:
        """Waits for the first updates.

        Raises:
          UserError: the run failed or made no progress in time.
        """
        deadline = time.monotonic() + _START_SECONDS
        while len(self._rows()) < 2:
            self._check()
            if time.monotonic() > deadline:
                raise UserError(f"The whole system made no progress within {_START_SECONDS:g} s.")
            time.sleep(0.05)

    def watch(self, seconds: float) -> dict[str, Any]:
        """Lets the run continue for `seconds` and until the next update; returns statistics of that time.

        Returns:
          policy_lag_mean and policy_lag_max (learner steps), learner_waiting (share of the time), actor_shares and
          central_inference_shares ({activity: share of the time since the start}).

        Raises:
          UserError: the run failed or made no progress in time.
        """
        before = len(self._rows())
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline or len(self._rows()) == before:
            self._check()
            if time.monotonic() > deadline + _START_SECONDS:
                raise UserError(f"The whole system made no progress within {_START_SECONDS:g} s.")
            time.sleep(0.05)
        rows = self._rows()[before:]
        return {
            "policy_lag_mean": sum(float(row["policy_lag_mean"]) for row in rows) / len(rows),
            "policy_lag_max": max(float(row["policy_lag_max"]) for row in rows),
            "learner_waiting": sum(float(row["learner_waiting"]) for row in rows) / len(rows),
            "actor_shares": _shares([spent for name, spent in self._spent.items() if name.startswith("actor")]),
            "central_inference_shares": _shares([spent for name, spent in self._spent.items() if name == "learner"]),
        }

    def pause(self) -> None:
        """Pauses the run's processes."""
        pids = [process.pid for process in self._processes().values()]
        kill = "read _; kill -CONT " + " ".join(map(str, pids))
        self._guard = subprocess.Popen(["sh", "-c", kill], stdin=subprocess.PIPE, start_new_session=True)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        self._paused_since = time.time()

    def resume(self) -> None:
        """Continues the run's processes after `pause`."""
        if self._guard is None:
            return
        assert self._guard.stdin is not None
        self._pauses.append((self._paused_since, time.time()))
        self._guard.stdin.close()
        self._guard.wait()
        self._guard = None

    def mark(self) -> _Mark:
        """Returns the run's present state, for `since`."""
        return _Mark(len(self._rows()), self._processes())

    def since(self, mark: _Mark) -> dict[str, Any]:
        """Returns throughput and cost since `mark`, over the time between updates without pauses.

        Returns:
          frames_per_second, core_seconds_per_frame, cpu_seconds_per_1000_frames {process: ...} and peak_memory_mib
          {process: ...}.

        Raises:
          UserError: the run failed or finished no update.
        """
        self._check()
        rows, now = self._rows(), self._processes()
        first, last = rows[mark.rows - 1], rows[-1]
        frames = int(last["frames"]) - int(first["frames"])
        if not frames:
            raise UserError("The whole system finished no update while it was measured; give --seconds a larger value.")
        start, end = float(first["time"]), float(last["time"])
        paused = sum(max(0.0, min(stop, end) - max(begin, start)) for begin, stop in self._pauses)
        cpu = {name: now[name].cpu_seconds - mark.processes[name].cpu_seconds for name in mark.processes if name in now}
        return {
            "frames_per_second": frames / (end - start - paused),
            "core_seconds_per_frame": sum(cpu.values()) / frames,
            "cpu_seconds_per_1000_frames": {name: 1000 * seconds / frames for name, seconds in sorted(cpu.items())},
            "peak_memory_mib": {name: now[name].peak_mib for name in sorted(cpu)},
        }

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _rows(self) -> list[dict[str, str]]:
        try:
            with open(self._logdir.progress, newline="") as file:
                rows = list(csv.DictReader(file))
        except FileNotFoundError:
            return []
        # The last row may be incomplete.
        return [row for row in rows if None not in row.values()]

    def _processes(self) -> dict[str, _Process]:
        """Returns the learners and the actors among this process's descendants, by name."""
        found = {}
        for pid, name in descendants().items():
            if not re.fullmatch(r"learner( \d+)?|actor \d+", name):
                continue
            folder = pathlib.Path(f"/proc/{pid}")
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                peak = re.search(r"VmHWM:\s+(\d+)", (folder / "status").read_text())
            except OSError:  # It has just ended.
                continue
            cpu = (int(fields[11]) + int(fields[12])) / _TICKS
            found[name] = _Process(pid, cpu, int(peak[1]) / 1024 if peak else 0.0)
        return found

    def __enter__(self) -> WholeSystem:
        return self

    def __exit__(self, *_: object) -> None:
        self.resume()
        self._stop.set()
        self._thread.join()
        _RUN_LOGGER.setLevel(self._log_level)
        self._folder.close()


class _Mark(NamedTuple):
    rows: int
    processes: dict[str, _Process]


def _shares(processes: Sequence[Spent]) -> dict[str, float]:
    """Returns {activity: share of the time since the start}, averaged over the processes."""
    shares: dict[str, list[float]] = {}
    for spent in processes:
        for activity, seconds in spent.seconds.items():
            shares.setdefault(activity, []).append(seconds / spent.elapsed)
    return {activity: sum(values) / len(values) for activity, values in shares.items()}

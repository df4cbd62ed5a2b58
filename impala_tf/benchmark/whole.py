"""The whole system for a while, and what each of its processes took."""

from __future__ import annotations

import csv
import dataclasses
import os
import pathlib
import re
import tempfile
import threading
import time
from collections.abc import Iterable
from typing import Any

from impala_tf.config import Config
from impala_tf.errors import UserError
from impala_tf.runtime import supervisor
from impala_tf.runtime.logdir import LogDir
from impala_tf.transport import ports

_START_SECONDS = 120.0
_TICKS = os.sysconf("SC_CLK_TCK")


def run(config: Config, warm_up: float, seconds: float) -> dict[str, Any]:
    """Trains in a folder that is removed again, and measures `seconds` of it, `warm_up` seconds after the first update.

    Returns:
      frames_per_second, core_seconds_per_frame, cpu_seconds_per_1000_frames {process: ...}, peak_memory_mib
      {process: ...} (resident, what forked processes share counted in each), policy_lag_mean and policy_lag_max
      (learner steps), x

    Raises:
      UserError: as `supervisor.run`; or the system did not get going.
    """
    with tempfile.TemporaryDirectory(prefix="impala_tf_benchmark_") as folder:
        chosen = dataclasses.replace(
            config.run, logdir=folder, total_frames=10**12, log_interval=1.0, checkpoint_interval=3600.0
        )
        config = dataclasses.replace(config, run=chosen)
        logdir = LogDir(folder)
        logdir.check(config)
        stop, failed = threading.Event(), []

        def work() -> None:
            try:
                supervisor.run(config, ports.free_port(), stop, lambda _: None)
            except UserError as error:
                failed.append(error)

        thread = threading.Thread(target=work, name="whole-system")
        thread.start()
        try:
            rows = _Rows(logdir.progress, lambda: thread.is_alive())
            first = rows.next(_START_SECONDS)
            while float(first["seconds"]) < warm_up:
                first = rows.next(_START_SECONDS)
            before = _processes()
            measured: list[dict[str, str]] = []
            while not measured or float(measured[-1]["time"]) - float(first["time"]) < seconds:
                measured.append(rows.next(_START_SECONDS))
            after = _processes()
            shares = {
                "actor_shares": _shares(logdir.logs.glob("actor_*.log")),
                "central_inference_shares": _shares([logdir.logs / "learner.log"]),
            }
        finally:
            stop.set()
            thread.join()
            if failed:
                raise failed[0]
    return _summary(first, measured, before, after, shares)


class _Rows:
    """The rows of a progress.csv as they are written."""

    def __init__(self, path: pathlib.Path, alive):
        self._path, self._alive, self._taken = path, alive, 0

    def next(self, timeout: float) -> dict[str, str]:
        """Waits for a row after the last one returned, and returns the newest."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and self._alive():
            if self._path.exists():
                with open(self._path, newline="") as file:
                    rows = list(csv.DictReader(file))
                if len(rows) > self._taken:
                    self._taken = len(rows)
                    return rows[-1]
            time.sleep(0.02)
        raise UserError(f"The system made no progress within {timeout:g} s.")


def _processes() -> dict[str, tuple[float, float]]:
    """{name: (CPU seconds so far, peak resident MiB)} of this process's descendants that do a run's work."""
    parents, found = {}, {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
            fields = rest.split()
            peak = re.search(r"VmHWM:\s+(\d+)", (folder / "status").read_text())
        except OSError:  # It ended just now.
            continue
        cpu = (int(fields[11]) + int(fields[12])) / _TICKS
        parents[int(folder.name)] = int(fields[1])
        found[int(folder.name)] = (name, cpu, int(peak[1]) / 1024 if peak else 0.0)

    def ours(pid: int) -> bool:
        while pid in parents:
            pid = parents[pid]
            if pid == os.getpid():
                return True
        return False

    return {
        name: (cpu, peak)
        for pid, (name, cpu, peak) in found.items()
        if re.fullmatch(r"learner|actor \d+", name) and ours(pid)
    }


def _shares(logs: Iterable[pathlib.Path]) -> dict[str, float]:
    """{what: share of its time that a process has spent in it}, the mean over processes; by the last such log line."""
    shares: dict[str, list[float]] = {}
    for log in logs:
        lines = re.findall(r": (\w+ \d+%(?:, \w+ \d+%)*)$", log.read_text(), re.MULTILINE)
        for what, percent in re.findall(r"(\w+) (\d+)%", lines[-1] if lines else ""):
            shares.setdefault(what, []).append(int(percent) / 100)
    return {what: sum(values) / len(values) for what, values in shares.items()}


def _summary(first, measured, before, after, shares) -> dict[str, Any]:
    last = measured[-1]
    frames = int(last["frames"]) - int(first["frames"])
    cpu = {name: after[name][0] - before[name][0] for name in sorted(after) if name in before}
    return {
        "frames_per_second": frames / (float(last["time"]) - float(first["time"])),
        "core_seconds_per_frame": sum(cpu.values()) / frames,
        "cpu_seconds_per_1000_frames": {name: 1000 * seconds / frames for name, seconds in cpu.items()},
        "peak_memory_mib": {name: after[name][1] for name in cpu},
        "policy_lag_mean": sum(float(row["policy_lag_mean"]) for row in measured) / len(measured),
        "policy_lag_max": max(float(row["policy_lag_max"]) for row in measured),
        "learner_waiting": sum(float(row["learner_waiting"]) for row in measured) / len(measured),
        **shares,
    }

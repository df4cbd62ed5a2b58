"""Watches the memory of a run: `python -m run.memory --env=catch --minutes=60 --output=memory.csv`.

Takes the flags of `impala-train`. Trains in a temporary folder and records, for each process of the run, resident
memory, open file descriptors and threads, as the kernel reports them. Prints how they changed after the first tenth of
the time, and draws the memory next to the CSV file. The first minutes are left out because queues, caches and the
allocator's arenas are still filling then.
"""

from __future__ import annotations

import contextlib
import csv
import logging
import os
import pathlib
import re
import threading
import time
from typing import Any, NamedTuple

from absl import flags

from impala_tf import flags as impala_flags
from impala_tf.benchmark.setup import Setup, resolve
from impala_tf.errors import UserError
from impala_tf.processes.listing import descendants
from impala_tf.processes.signals import stop_on_signal
from impala_tf.processes.temporary import Folder
from impala_tf.records.logdir import LogDir

from . import command, setups

_LOGGER = logging.getLogger("impala_tf.run")
_SAMPLE_SECONDS = 10.0
_LEFT_OUT = 0.1  # Share of the time.
_MIB = 2**20


class _Sample(NamedTuple):
    seconds: float
    frames: int
    process: str
    resident_bytes: int
    file_descriptors: int
    threads: int


def _sample(start: float, logdir: LogDir) -> list[_Sample]:
    """Measures this process and every process of the run."""
    seconds, frames = round(time.monotonic() - start, 1), _frames(logdir)
    named = {pid: name for pid, name in descendants().items() if re.fullmatch(r"learner|actor \d+", name)}
    samples = []
    for pid, name in {os.getpid(): "launcher", **named}.items():
        folder = pathlib.Path(f"/proc/{pid}")
        try:
            fields = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
            descriptors = len(os.listdir(folder / "fd"))
        except OSError:  # It has just ended.
            continue
        resident = 1024 * int(fields["VmRSS"].split()[0])
        samples.append(_Sample(seconds, frames, name, resident, descriptors, int(fields["Threads"])))
    return samples


def _frames(logdir: LogDir) -> int:
    """Returns the environment frames in the last whole row of progress.csv, 0 before the first."""
    try:
        *rows, _ = logdir.progress.read_text().split("\n")
    except FileNotFoundError:
        return 0
    return int(rows[-1].split(",")[rows[0].split(",").index("frames")]) if len(rows) > 1 else 0


def _watch(setup: Setup, minutes: float, output: pathlib.Path) -> list[_Sample]:
    """Runs the program for some minutes and returns the samples, which are also written to `output` at once."""
    from impala_tf.architectures import table
    from impala_tf.launch import local

    stop, received = stop_on_signal()
    samples: list[_Sample] = []
    start = time.monotonic()
    logdir = LogDir(setup.config.run.logdir)

    def watch() -> None:
        with open(output, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(_Sample._fields)
            while not stop.wait(_SAMPLE_SECONDS):
                new = _sample(start, logdir)
                samples.extend(new)
                writer.writerows(new)
                file.flush()
                if time.monotonic() - start > 60 * minutes:
                    stop.set()

    watcher = threading.Thread(target=watch, name="memory")
    watcher.start()
    try:
        local.run(table.program(setup.config, setup.tasks, setup.topology), logdir, stop)
    finally:
        stop.set()
        watcher.join()
    if received:
        _LOGGER.info("ended early; %s has the samples so far", output)
    return samples


def _table(samples: list[_Sample]) -> str:
    """Formats the change of each process's memory, and its file descriptors and threads at both ends."""
    import numpy as np

    first = _LEFT_OUT * samples[-1].seconds
    lines = [f"{'process':<10}{'MiB':>16}{'MiB/h (95% interval)':>30}{'descriptors':>16}{'threads':>14}"]
    for name in dict.fromkeys(sample.process for sample in samples):
        own = [sample for sample in samples if sample.process == name and sample.seconds >= first]
        if len(own) < 3:
            continue
        hours = np.array([sample.seconds for sample in own]) / 3600
        memory = np.array([sample.resident_bytes for sample in own]) / _MIB
        slope, error = _slope(hours, memory)
        begin, end = own[0], own[-1]
        lines.append(
            f"{name:<10}{memory[0]:>7.1f} - {memory[-1]:<6.1f}{slope:>16.2f} ± {1.96 * error:<11.2f}"
            f"{begin.file_descriptors:>7} - {end.file_descriptors:<6}{begin.threads:>6} - {end.threads:<5}"
        )
    last = samples[-1]
    lines.append(f"{last.frames:,} frames in {last.seconds / 60:.1f} minutes; after the first {first / 60:.1f} minutes")
    return "\n".join(lines)


def _slope(x: Any, y: Any) -> tuple[float, float]:
    """Returns the least-squares slope and its standard error, which takes the residuals for independent."""
    import numpy as np

    centered = x - x.mean()
    slope = float(centered @ y / (centered @ centered))
    residuals = y - y.mean() - slope * centered
    return slope, float(np.sqrt(residuals @ residuals / (len(x) - 2) / (centered @ centered)))


def _draw(samples: list[_Sample], output: pathlib.Path) -> pathlib.Path:
    """Draws memory against time beside the CSV file; returns the picture's path."""
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(7, 4), layout="constrained")
    ax = figure.subplots()
    for name in dict.fromkeys(sample.process for sample in samples):
        own = [sample for sample in samples if sample.process == name]
        ax.plot([s.seconds / 60 for s in own], [s.resident_bytes / _MIB for s in own], label=name)
    ax.set_xlabel("minutes")
    ax.set_ylabel("resident memory (MiB)")
    ax.set_ylim(bottom=0)
    ax.grid(alpha=0.3)
    ax.legend(fontsize="small")
    path = output.with_suffix(".png")
    figure.savefig(path, dpi=120)
    return path


def _main() -> int:
    output, minutes = pathlib.Path(flags.FLAGS.output), flags.FLAGS.minutes
    if output.exists():
        raise UserError(f"--output={output} exists already: give another, or remove it first.")
    setup = resolve(impala_flags.to_config())
    with contextlib.closing(Folder()) as folder:
        setup = setup.with_run(logdir=str(folder.path), total_frames=10**12)
        LogDir(str(folder.path)).check(setup.config)
        samples = _watch(setup, minutes, output)
    if not samples or samples[-1].seconds < 3 * _SAMPLE_SECONDS:
        raise UserError("The run ended before there was anything to compare.")
    _LOGGER.info("\n%s\n\n%s and %s have the samples.", _table(samples), output, _draw(samples, output))
    return 0


def main() -> None:
    """Entry point of `python -m run.memory`."""
    group = "The measurement"
    impala_flags.define_own(group, "minutes", 60.0, "Minutes to train.", at_least=1)
    impala_flags.define_own(group, "output", "memory.csv", "CSV file for the samples; must not exist.", path=True)
    setups.define()
    impala_flags.define()
    command.run(_main, __doc__)


if __name__ == "__main__":
    main()

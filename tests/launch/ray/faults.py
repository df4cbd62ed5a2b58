"""Breaks runs on a cluster and measures how they recover: `python tests/launch/ray/faults.py --output=faults.csv`.

The cluster is a real one, of several nodes on this machine, each with processes of its own; health checks are as fast
as docs/clusters.md advises. The run is the real command, which learns catch. One after the other, each of `FAULTS`
happens to it while it learns. For each, the command prints a row and writes it to the CSV file:

- seconds until there are more frames than before the fault and all actors act, or until the command has ended;
- frames of the last row of progress.csv before the fault, and of the first one after it;
- the most processes at once that led the learners, seen ten times a second, stopped ones left out: of more than one,
  only the folder's claim would keep one from writing;
- processes left behind, 10 s after the command has ended where it ends;
- what was wrong: nothing, or what does not hold.

With --learners=2, the run has two learners. Name faults to see these only.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import functools
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

import pandas as pd
from clusters import Nodes
from machines import Head, Machines
from watched import Run, of_node, parent, raylet

RECOVERS = 60.0
"""Seconds."""
STARTS = 180.0
ENDS = 10.0


def kill_process(name: str, run: Run, nodes: Nodes) -> None:
    os.kill(run.processes(name)[0], signal.SIGKILL)


def kill_host(name: str, run: Run, nodes: Nodes) -> None:
    os.kill(parent(run.processes(name)[0]), signal.SIGKILL)


def kill_node(name: str, run: Run, nodes: Nodes) -> None:
    """Another node takes its place, 2 s later, as in a cluster that is scaled."""
    number = raylet(run.processes(name)[0])
    pids = of_node(run, number)
    nodes.kill(number)
    for pid in pids:  # A machine takes everything with it.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    time.sleep(2)
    nodes.add(2)


def stop_node(name: str, run: Run, nodes: Nodes) -> None:
    """The machine hangs for 30 s, all of it, and then goes on as if nothing had happened."""
    pids = of_node(run, raylet(run.processes(name)[0]))
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)

    def go_on() -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    threading.Timer(30, go_on).start()
    nodes.add(2)


def add_actors(run: Run, nodes: Nodes) -> None:
    """One of the actors has been waiting for a machine."""
    run.actors += 1
    nodes.add(1)


def kill_driver(run: Run, nodes: Nodes) -> None:
    assert run.process is not None
    run.process.kill()
    run.process.wait()
    gone = run.until(lambda: not (run.processes(run.leader) or run.processes("actor 0")), 20)
    print(f"  after the kill of the command, its processes were gone {gone} s later", flush=True)
    run.start(nodes.address)


FAULTS: dict[str, Callable[[Run, Nodes], None]] = {
    "node added": add_actors,
    "actor killed": functools.partial(kill_process, "actor 0"),
    "actor's host killed": functools.partial(kill_host, "actor 0"),
    "actor's node killed": functools.partial(kill_node, "actor 0"),
    "learner killed": functools.partial(kill_process, "LEADER"),
    "learner's host killed": functools.partial(kill_host, "LEADER"),
    "learner's node killed": functools.partial(kill_node, "LEADER"),
    "learner's node hangs for 30 s": functools.partial(stop_node, "LEADER"),
    "command killed, started again": kill_driver,
}
SIGNALS = {"Ctrl-C": (signal.SIGINT, 130), "SIGTERM": (signal.SIGTERM, 143)}


def fault_of(name: str, run: Run, nodes: Nodes) -> Callable[[], None]:
    fault = FAULTS[name]
    if isinstance(fault, functools.partial) and fault.args == ("LEADER",):
        fault = functools.partial(fault.func, run.leader)
    return functools.partial(fault, run, nodes)


def provoke(name: str, run: Run, fault: Callable[[], None]) -> dict[str, object]:
    """Provokes a fault that the run survives; returns its row."""
    before, saved, run.writers = run.frames, run.saved, 0
    since, at = len(run.output.read_bytes()), time.monotonic()
    fault()
    first: list[int] = []

    def recovered() -> bool:
        frames = run.frames
        if frames > before and not first:
            first.append(frames)
        noticed = "resuming" in run.said(since) or min(run.acting(since), default=run.actors) < run.actors
        return frames > before and noticed and run.all_act(since)

    took = run.until(recovered, 120)
    seconds = time.monotonic() - at
    return {
        "fault": name,
        "seconds": round(seconds, 1),
        "frames_before": before,
        "saved_before": saved,
        "frames_after": first[0] if first else 0,
        "writers": run.writers,
        "left": "",
        "wrong": problems(run, took is not None and seconds <= RECOVERS, saved),
    }


def end(name: str, run: Run) -> dict[str, object]:
    """Ends the run by a signal; returns its row."""
    assert run.process is not None
    sig, status = SIGNALS[name]
    before, saved, run.writers, at = run.frames, run.saved, 0, time.monotonic()
    run.process.send_signal(sig)
    code: int | None = None
    with contextlib.suppress(subprocess.TimeoutExpired):
        code = run.process.wait(30)
    seconds = time.monotonic() - at
    kinds = ("learner", "learner 0", "learner 1", *(f"actor {n}" for n in range(9)))

    def left() -> list[int]:
        return [pid for kind in kinds for pid in run.processes(kind)]

    run.until(lambda: not left(), ENDS)
    wrong = problems(run, code == status and run.saved >= before, saved)
    return {
        "fault": name,
        "seconds": round(seconds, 1),
        "frames_before": before,
        "saved_before": saved,
        "frames_after": run.saved,
        "writers": run.writers,
        "left": len(left()),
        "wrong": wrong or ("processes are left" if left() else ""),
    }


def problems(run: Run, well: bool, saved: int) -> str:
    found = [] if well else ["did not recover in time"]
    if run.writers > 1:
        found.append("two learners at once")
    if run.saved < saved:
        found.append("a checkpoint is lost")
    frames = pd.read_csv(run.logdir / "progress.csv", dtype=float)["frames"].iloc[
        :-1
    ]  # The last row may be half there.
    if frames.isna().any() or not frames.is_monotonic_increasing:
        found.append("progress.csv is damaged")
    return ", ".join(found)


@contextlib.contextmanager
def started(learners: int, cpus: tuple[int, ...], actors: int, more: int = 0) -> Iterator[tuple[Run, Nodes]]:
    """A run that learns, on a cluster of its own; of its actors, `more` have no room yet."""
    with tempfile.TemporaryDirectory(prefix="faults_", dir="/tmp") as name:
        run = Run(pathlib.Path(name), learners, actors + more)
        run.actors = actors
        os.environ.update(run.environment)  # For the cluster.
        nodes = Nodes(pathlib.Path(name) / "ray", *cpus)
        try:
            run.start(nodes.address)
            if run.until(lambda: run.saved and run.frames and (more or run.all_act()), STARTS) is None:
                raise SystemExit(f"ERROR: the run did not start\n{run.said()[-3000:]}")
            yield run, nodes
        finally:
            if run.process is not None and run.process.poll() is None:
                run.process.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    run.process.wait(20)
            nodes.close()
            run.close()
            for variable in run.environment:
                os.environ.pop(variable, None)


def job(name: str, learners: int) -> Iterator[dict[str, object]]:
    """Submits the run as a job to a head with a dashboard; stops it; kills the head and submits it again to another."""
    with tempfile.TemporaryDirectory(prefix="faults_", dir="/tmp") as folder:
        run = Run(pathlib.Path(folder), learners, 2)
        heads = []
        try:
            for number in range(2):
                heads.append(Head(run, pathlib.Path(folder) / f"ray{number}"))
                job_id = heads[-1].submit(run)
                base = run.saved
                if run.until(lambda base=base: run.saved > base and run.frames, STARTS) is None:  # type: ignore[misc]
                    raise SystemExit(f"ERROR: the job did not start\n{heads[-1].logs(job_id)[-3000:]}")
                before, saved, run.writers, at = run.frames, run.saved, 0, time.monotonic()
                if number == 0:
                    heads[0].kill()
                else:
                    heads[1].stop(job_id)
                gone = run.until(lambda: not (run.processes(run.leader) or run.processes("actor 0")), 90)
                yield {
                    "fault": ("head killed (then submitted again)", "ray job stop")[number],
                    "seconds": round(time.monotonic() - at, 1),
                    "frames_before": before,
                    "saved_before": saved,
                    "frames_after": run.saved,
                    "writers": run.writers,
                    "left": len(run.processes(run.leader) + run.processes("actor 0") + run.processes("actor 1")),
                    "wrong": problems(run, gone is not None and (number == 0 or run.saved >= before), saved),
                }
        finally:
            for head in heads:
                head.kill()
            run.close()


def link(learners: int) -> dict[str, object]:
    """Cuts the machine of the learner off for 30 s."""
    with tempfile.TemporaryDirectory(prefix="faults_", dir="/tmp") as folder:
        run = Run(pathlib.Path(folder), learners, 2)
        machines = Machines(run, pathlib.Path(folder))
        try:
            run.start(machines.address, before=machines.inside(1))
            if run.until(lambda: run.saved and run.all_act(), STARTS) is None:
                raise SystemExit(f"ERROR: the run did not start\n{run.said()[-3000:]}")
            where = re.findall(r"starting: learner at 10\.77\.0\.(\d)", run.said())[-1]
            return provoke("link of the learner's machine cut for 30 s", run, lambda: machines.cut(int(where), 30))
        finally:
            print(run.said(), flush=True)
            machines.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "faults", nargs="*", help=f"of {[*FAULTS, *SIGNALS, 'job', 'link']}; all but link, which needs root, by default"
    )
    parser.add_argument("--learners", type=int, default=1)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("faults.csv"), help="CSV file to write")
    options = parser.parse_args()
    chosen = options.faults or [*FAULTS, *SIGNALS, "job"]
    with open(options.output, "w", newline="") as file:
        rows: list[dict[str, object]] = []
        writer = None

        def note(row: dict[str, object]) -> None:
            nonlocal writer
            row = {"learners": options.learners, **row}
            rows.append(row)
            writer = writer or csv.DictWriter(file, row)
            if len(rows) == 1:
                writer.writeheader()
            writer.writerow(row)
            file.flush()
            print(*(f"{key} {value}" for key, value in row.items()), sep=", ", flush=True)

        usual = [name for name in FAULTS if name in chosen]
        signals = [name for name in SIGNALS if name in chosen]
        if usual or signals:
            cpus = (2, 1) if options.learners == 1 else (2, 2)  # Unlike nodes.
            more = int("node added" in usual)
            with started(options.learners, cpus, 2, more) as (run, nodes):
                for name in usual:
                    note(provoke(name, run, fault_of(name, run, nodes)))
                    time.sleep(5)
                for number, name in enumerate(signals):
                    if number:
                        run.start(nodes.address)
                        saved = run.saved
                        run.until(lambda saved=saved: run.saved > saved, STARTS)  # type: ignore[misc]
                    note(end(name, run))
                print(run.said(), flush=True)
        if "link" in chosen:
            note(link(options.learners))
        if "job" in chosen:
            for row in job("job", options.learners):
                note(row)
    wrong = [row for row in rows if row["wrong"]]
    print(f"{len(rows)} faults, {len(wrong)} of them with problems", flush=True)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()

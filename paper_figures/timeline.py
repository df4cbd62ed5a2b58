"""Records what actors and learner do when, for Figure 2: `python -m paper_figures.timeline --output=FOLDER`.

Eight actors with one environment each and a learner run three architectures:

* `batched_a2c_sync_step`: batched A2C, synchronized every step. The environments step in processes of their own; when
  the last has answered, the learner's process acts for all of them in one forward pass.
* `batched_a2c_sync_trajectory`: batched A2C, synchronized every trajectory. Actors act by themselves, and wait after
  each unroll until the learner has published the parameters that it learned from it.
* `impala`: actors and learner wait for each other only where the queue between them is full or empty.

Transport is what it takes to write an unroll and to pull the newest parameters.
"""

from __future__ import annotations

import argparse
import csv
import logging
import os
import pathlib
import sys
import tempfile
import threading
from collections.abc import Sequence

import numpy as np

from impala_tf import quiet, topology
from impala_tf.architectures import table as architectures
from impala_tf.config import Config, from_values, to_values
from impala_tf.environments import task_set
from impala_tf.errors import UserError
from impala_tf.launch import local
from impala_tf.records.logdir import LogDir
from impala_tf.transport import ports

COLUMNS = ("scheme", "who", "what", "start", "end")
ENVIRONMENT_STEP, FORWARD, BACKWARD, TRANSPORT = "environment step", "forward pass", "backward pass", "transport"
LEARNER = "learner"
NUM_ACTORS = 8
SYNC_STEP, SYNC_TRAJECTORY = "batched_a2c_sync_step", "batched_a2c_sync_trajectory"
SCHEMES = (SYNC_STEP, SYNC_TRAJECTORY, "impala")
"""Names of `architectures.table`."""

_KEPT_UPDATES = 6
_SHORTEST_TRANSPORT = 50e-6  # Seconds. An actor also "writes" each step into its unroll, which takes next to no time.

_TRANSPORT = dict.fromkeys(("variables", "writer", "queue"), TRANSPORT)
_DRAWN_OF_ACTOR = {"inference": FORWARD, "environment": ENVIRONMENT_STEP, **_TRANSPORT}
_DRAWN_OF_POLICY = {"inference": FORWARD, **_TRANSPORT}  # Its environments step elsewhere.
_DRAWN_OF_ENVIRONMENT = {"environment": ENVIRONMENT_STEP}  # Its policy acts elsewhere.
_DRAWN_OF_LEARNER = {"update": BACKWARD}

Row = tuple[str, str, float, float]
"""Who, what, start and end in seconds of `time.perf_counter`: on Linux, one clock for all processes."""


def record(scheme: str, config: Config, updates: int) -> list[Row]:
    """Runs a scheme (of `SCHEMES`) until it has made `updates` learner steps; returns what its processes did when.

    Raises:
      UserError: as `local.run`.
    """
    config = from_values(to_values(config) | {"architecture": scheme})
    tasks = task_set.resolve(config.environment)
    resolved = topology.resolve(config, len(tasks.names), ports.on_this_machine(config.launch))
    frames = updates * config.data.fresh_batch_size * config.data.unroll_length * tasks.spec.frames_per_step
    with tempfile.TemporaryDirectory() as folder:
        spans = pathlib.Path(folder, "spans")
        spans.mkdir()
        config = from_values(to_values(config) | {"logdir": folder, "total_frames": frames})
        logdir = LogDir(folder)
        logdir.check(config)
        local.run(architectures.program(config, tasks, resolved, spans), logdir, threading.Event())
        return read(spans, central_policy=scheme == SYNC_STEP)


def read(spans: pathlib.Path, central_policy: bool) -> list[Row]:
    """What the processes recorded in the folder `spans`, in the terms of Figure 2.

    Args:
      spans: a CSV file for each process, see `Timings`.
      central_policy: the learner's process acts for the actors, which only step environments.
    """
    rows: list[Row] = []
    for path in spans.glob("*.csv"):
        drawn = _DRAWN_OF_ENVIRONMENT if central_policy else _DRAWN_OF_ACTOR
        drawn = {LEARNER: _DRAWN_OF_LEARNER, "policy": _DRAWN_OF_POLICY}.get(path.stem, drawn)
        who = LEARNER if path.stem == "policy" else path.stem
        # The last line may not be complete.
        complete = path.read_text().rpartition("\n")[0]
        for activity, start, end in csv.reader(complete.splitlines()):
            what = drawn.get(activity)
            if what and not (what == TRANSPORT and float(end) - float(start) < _SHORTEST_TRANSPORT):
                rows.append((who, what, float(start), float(end)))
    return sorted(rows, key=lambda row: row[2])


def busiest_updates(rows: Sequence[Row], updates: int) -> list[Row]:
    """What was done in the successive `updates` in which most environment steps were taken per second.

    Other work on the machine disturbed those least. They last from the end of the update before to the end of the last
    one; times are returned in milliseconds since the first of these.
    """
    ends = [end for _, what, _, end in rows if what == BACKWARD]
    steps = np.array([end for _, what, _, end in rows if what == ENVIRONMENT_STEP])

    def rate(stretch: tuple[float, float]) -> float:
        return float(np.sum((steps > stretch[0]) & (steps <= stretch[1])) / (stretch[1] - stretch[0]))

    first, last = max(zip(ends, ends[updates:]), key=rate)
    kept = [row for row in rows if row[2] < last and row[3] > first]
    return [(who, what, 1e3 * (start - first), 1e3 * (end - first)) for who, what, start, end in kept]


def settings(env: str, unroll_length: int, seed: int) -> Config:
    """A run with one environment in each actor, and a batch of one unroll of each."""
    values = {"env": env, "env_processes": "off", "unroll_length": unroll_length, "seed": seed, "log_interval": 3600.0}
    return from_values(
        values | {"num_actors": NUM_ACTORS, "envs_per_actor": 1, "batch_size": NUM_ACTORS, "queue_size": 2 * NUM_ACTORS}
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Records the schemes, one after the other, and writes `timeline.csv`; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, required=True, help="folder of the CSV file")
    parser.add_argument("--env", default="vizdoom/Basic", help="environment")
    parser.add_argument("--unroll_length", type=int, default=4, help="T, agent steps of an unroll")
    parser.add_argument("--updates", type=int, default=300, help=f"learner steps; {_KEPT_UPDATES} are kept")
    parser.add_argument("--seed", type=int, default=1)
    flags = parser.parse_args(argv)
    logging.getLogger("impala_tf").setLevel(logging.ERROR)
    try:
        if flags.updates <= _KEPT_UPDATES:
            raise UserError(f"--updates={flags.updates}: must be more than {_KEPT_UPDATES}.")
        config = settings(flags.env, flags.unroll_length, flags.seed)
        flags.output.mkdir(parents=True, exist_ok=True)
        quiet.native_stderr(os.devnull)
        table = []
        for name in SCHEMES:
            print(f"{name}: {flags.updates} updates", flush=True)
            rows = busiest_updates(record(name, config, flags.updates), _KEPT_UPDATES)
            table += [(name, who, what, f"{start:.3f}", f"{end:.3f}") for who, what, start, end in rows]
        with open(flags.output / "timeline.csv", "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *table])
    except UserError as error:
        print(f"ERROR: {error}", file=sys.stderr, flush=True)
        return 2
    print(f"{flags.output / 'timeline.csv'}: {len(table)} rows", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

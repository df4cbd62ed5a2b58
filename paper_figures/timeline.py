"""Records what actors and learner do when, for Figure 2: `python -m paper_figures.timeline --output=FOLDER`.

Eight actors with one environment each and a learner play by three schemes, with the parts that runs are made of:

* `sync_step`: batched A2C, synchronised every step. The environments step in processes of their own; when the last has
  answered, the learner's process acts for all of them in one forward pass.
* `sync_trajectory`: batched A2C, synchronised every trajectory. Actors act by themselves, and wait behind their unroll
  until the learner has made new parameters of all unrolls.
* `impala`: actors and learner wait for each other only where the queue between them is full or empty.

Transport is what an actor spends on an unroll's way out and on the newest parameters' way in.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tree

from impala_tf import quiet
from impala_tf.acting.actor import Actor
from impala_tf.config import Config, from_values
from impala_tf.environments.remote import worker
from impala_tf.environments.remote.mailbox import PolicyMailbox, WorkerMailbox
from impala_tf.processes import child as hosting
from impala_tf.environments.base import BatchedEnvironment
from impala_tf.errors import UserError
from impala_tf.learning.learner import Learner
from impala_tf.networks.agent import make_agent
from impala_tf.processes import forking
from impala_tf import topology as layout
from impala_tf.roles.actor import Connection, make_actor
from impala_tf.structures import EnvironmentOutput, Trajectory
from impala_tf.transport import TRAJECTORIES, VARIABLES, server
from impala_tf.transport.dataset import BatchQueue, make_dataset
from impala_tf.transport.signatures import trajectory_signature, unroll_signature, variables_signature
from impala_tf.transport.variables import VariablePublisher

COLUMNS = ("scheme", "who", "what", "start", "end")
ENVIRONMENT_STEP, FORWARD, BACKWARD, TRANSPORT = "environment step", "forward pass", "backward pass", "transport"
LEARNER = "learner"
NUM_ACTORS = 8

_KEPT_UPDATES = 6
_TIMEOUT = 300.0  # Seconds.

Row = tuple[str, str, float, float]
"""Who, what, start and end in seconds of `time.perf_counter`: on Linux, one clock for all processes."""


class Log:
    """What one process did when. A file of its own, written line by line: the process may be ended at any time."""

    def __init__(self, folder: pathlib.Path, who: str):
        self._who = who
        self._file = open(folder / f"{who}.csv", "w", buffering=1)  # noqa: SIM115

    def timed(self, what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, every call of which is logged."""

        def call(*args: Any) -> Any:
            start = time.perf_counter()
            result = function(*args)
            self._file.write(f"{self._who},{what},{start!r},{time.perf_counter()!r}\n")
            return result

        return call


def sync_step(config: Config, folder: pathlib.Path, updates: int) -> None:
    """Batched A2C, synchronised every step: this process acts for all environments, and learns."""
    log, learner = Log(folder, LEARNER), _make_learner(config)
    update = log.timed(BACKWARD, learner.step)
    unrolls: list[Trajectory] = []
    pool = _Pool(config, folder)
    try:
        keep = lambda unroll: unrolls.append(tree.map_structure(np.array, unroll))  # noqa: E731
        actor = Actor(pool, learner.agent, keep, lambda: 0, config.data.unroll_length, config.run.seed)
        actor._policy = log.timed(FORWARD, actor._policy)  # type: ignore[assignment]
        for _ in range(updates):
            actor.run_unroll()
            update(_time_major(unrolls))
            unrolls.clear()
    finally:
        pool.close()


def sync_trajectory(config: Config, folder: pathlib.Path, updates: int) -> None:
    """Batched A2C, synchronised every trajectory."""
    _learn_from_actors(config, folder, updates, forking.context.Barrier(NUM_ACTORS + 1))


def impala(config: Config, folder: pathlib.Path, updates: int) -> None:
    """IMPALA: actors that never wait for one another."""
    _learn_from_actors(config, folder, updates, None)


SCHEMES = {scheme.__name__: scheme for scheme in (sync_step, sync_trajectory, impala)}


def _learn_from_actors(config: Config, folder: pathlib.Path, updates: int, barrier: Any) -> None:
    """The learner and its server; with a barrier, it meets all actors there behind every update."""
    log, learner = Log(folder, LEARNER), _make_learner(config)
    update, variables = log.timed(BACKWARD, learner.step), learner.agent.trainable_variables
    signature = unroll_signature(
        layout.environment_spec(config), learner.agent.core_state_spec, config.data.unroll_length
    )
    tables = server.load_config(config.data.reverb_config)
    server.set_queue_size(tables, config.data.queue_size, config.data.batch_size)
    with server.Server(tables, {TRAJECTORIES: signature, VARIABLES: variables_signature(variables)}, 0) as running:
        publisher = VariablePublisher(running.address, variables)
        publisher.publish(0)
        batches = BatchQueue(make_dataset(running.address, signature, config.data.batch_size), config.data.prefetch)
        actors = _start(_act, _with_run(config, address=running.address), folder, [barrier] * NUM_ACTORS)
        try:
            for _ in range(updates):
                update(_await(lambda: batches.get(timeout=1.0), actors))
                publisher.publish(int(learner.step_count))
                if barrier:
                    publisher.wait_until_pushed(_TIMEOUT)
                    barrier.wait(_TIMEOUT)
        finally:
            hosting.end(actors, 0.0)
            batches.stop()
            publisher.stop()


def _act(config: Config, folder: pathlib.Path, barrier: Any) -> None:
    """An actor's process; with a barrier, it waits there behind every unroll."""
    _use_one_thread()
    log = Log(folder, f"actor {config.run.actor_id}")
    connection = Connection(config, config.run.address, lambda _: None)
    connection.refresh = log.timed(TRANSPORT, connection.refresh)  # type: ignore[method-assign]
    connection.writer.write = log.timed(TRANSPORT, connection.writer.write)  # type: ignore[method-assign]
    flush = log.timed(TRANSPORT, connection.writer.flush)
    actor = make_actor(config, connection, print)
    actor.environment.step = log.timed(ENVIRONMENT_STEP, actor.environment.step)  # type: ignore[method-assign]
    actor._policy = log.timed(FORWARD, actor._policy)  # type: ignore[assignment]
    while True:
        actor.run_unroll()
        while not flush(1.0):
            pass
        if barrier:
            barrier.wait(_TIMEOUT)


class _Pool(BatchedEnvironment):
    """Environments in processes of their own that are stepped together."""

    def __init__(self, config: Config, folder: pathlib.Path):
        self.spec, self.num_envs = layout.environment_spec(config), NUM_ACTORS
        self._mailbox = PolicyMailbox(self.spec, NUM_ACTORS, 1)
        self._workers = _start(_step, config, folder, [self._mailbox.worker(i) for i in range(NUM_ACTORS)])
        self._mailbox.open()

    def reset(self) -> EnvironmentOutput:
        return self._answers()

    def step(self, actions: np.ndarray) -> EnvironmentOutput:
        for i in range(NUM_ACTORS):
            self._mailbox.answer(i, 1, actions[i : i + 1])
        return self._answers()

    def _answers(self) -> EnvironmentOutput:
        outputs: dict[int, EnvironmentOutput] = {}
        while len(outputs) < NUM_ACTORS:
            taken = _await(lambda: self._mailbox.take(timeout=1.0) or None, self._workers)
            outputs |= {i: output for i, _, output in taken}
        return tree.map_structure(lambda *column: np.concatenate(column), *(outputs[i] for i in range(NUM_ACTORS)))

    def close(self) -> None:
        hosting.end(self._workers, 0.0)


def _step(config: Config, folder: pathlib.Path, mailbox: WorkerMailbox) -> None:
    """The process of one environment of a `_Pool`."""
    log = Log(folder, f"actor {config.run.actor_id}")
    environment = layout.make_environments(config, config.run.seed + config.run.actor_id, print)
    environment.step = log.timed(ENVIRONMENT_STEP, environment.step)  # type: ignore[method-assign]
    worker.run(environment, mailbox, lambda _: None, float("inf"), lambda: None)


def _start(work: Callable[..., None], config: Config, folder: pathlib.Path, arguments: Sequence[Any]) -> list[Any]:
    """An actor's process for each argument."""
    processes = []
    for i, argument in enumerate(arguments):
        work_on = (work, _with_run(config, actor_id=i), folder, argument)
        processes.append(forking.context.Process(target=_host, args=work_on, name=f"actor {i}", daemon=True))
        processes[-1].start()
    return processes


def _host(work: Callable[..., None], *arguments: Any) -> None:
    hosting.end_with_parent()
    work(*arguments)


def _await(poll: Callable[[], Any], processes: Sequence[Any]) -> Any:
    """What `poll` returns as soon as that is not None, while all the processes live, and not for ever."""
    end = time.monotonic() + _TIMEOUT
    while (found := poll()) is None:
        for process in processes:
            if not process.is_alive():
                raise UserError(f"The process of {process.name} {hosting.end_of(process)}.")
        if time.monotonic() > end:
            raise UserError(f"Nothing came from the actors for {_TIMEOUT:g} s. Is the machine very busy?")
    return found


def _make_learner(config: Config) -> Learner:
    """With its update's graph built, so that the first update takes no longer than the others."""
    spec = layout.environment_spec(config)
    learner = Learner(make_agent(spec, config), config, spec.frames_per_step)
    learner.trace(
        trajectory_signature(spec, learner.agent.core_state_spec, config.data.unroll_length), config.data.batch_size
    )
    return learner


def _time_major(unrolls: Sequence[Trajectory]) -> Trajectory:
    """Unrolls [T + 1, ...] as a batch [T + 1, B, ...]; core states and task ids [B, ...]."""

    batch = tree.map_structure(lambda *column: np.stack(column), *unrolls)
    per_step = tree.map_structure(lambda x: x.swapaxes(0, 1), batch._replace(core_state=(), task_id=()))
    return per_step._replace(core_state=batch.core_state, task_id=batch.task_id)


def _with_run(config: Config, **values: Any) -> Config:
    return dataclasses.replace(config, run=dataclasses.replace(config.run, **values))


def _use_one_thread() -> None:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.set_visible_devices([], "GPU")


def read(folder: pathlib.Path) -> list[Row]:
    """All that the processes logged in `folder`."""
    rows: list[Row] = []
    for path in folder.glob("*.csv"):
        for who, what, start, end in csv.reader(path.open()):
            rows.append((who, what, float(start), float(end)))
    return sorted(rows, key=lambda row: row[2])


def busiest_updates(rows: Sequence[Row], updates: int) -> list[Row]:
    """What was done in the successive `updates` in which most steps were taken per second.

    Other work on the machine disturbed those least. From the end of the update before to the end of the last, in
    milliseconds since the first of these.
    """
    ends = [end for _, what, _, end in rows if what == BACKWARD]
    steps = np.array([end for _, what, _, end in rows if what == ENVIRONMENT_STEP])

    def rate(stretch: tuple[float, float]) -> float:
        return float(np.sum((steps > stretch[0]) & (steps <= stretch[1])) / (stretch[1] - stretch[0]))

    first, last = max(zip(ends, ends[updates:]), key=rate)
    kept = [row for row in rows if row[2] < last and row[3] > first]
    return [(who, what, 1e3 * (start - first), 1e3 * (end - first)) for who, what, start, end in kept]


def settings(env: str, unroll_length: int, seed: int) -> Config:
    """Of a run with one environment in each actor, and a batch of one unroll of each."""
    values = {"env": env, "env_processes": "off", "unroll_length": unroll_length, "seed": seed}
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
    try:
        if flags.updates <= _KEPT_UPDATES:
            raise UserError(f"--updates={flags.updates}: must be more than {_KEPT_UPDATES}.")
        config = settings(flags.env, flags.unroll_length, flags.seed)
        layout.check(config)
        quiet.native_stderr(os.devnull)
        _use_one_thread()
        flags.output.mkdir(parents=True, exist_ok=True)
        table = []
        for name, scheme in SCHEMES.items():
            print(f"{name}: {flags.updates} updates", flush=True)
            with tempfile.TemporaryDirectory() as folder:
                scheme(config, pathlib.Path(folder), flags.updates)
                rows = busiest_updates(read(pathlib.Path(folder)), _KEPT_UPDATES)
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

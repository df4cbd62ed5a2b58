"""The nodes that architectures are made of: roles with their values filled in.

Roles are imported where they run: to describe a run takes no TensorFlow.
"""

from __future__ import annotations

import functools
import pathlib
import signal
import threading
from typing import Any

from impala_tf.architectures.program import Node
from impala_tf.config import Config
from impala_tf.environments.remote.mailbox import PolicyMailbox, WorkerMailbox
from impala_tf.environments.task_set import TaskSet
from impala_tf.processes import parent
from impala_tf.processes.signals import stop_on_signal
from impala_tf.records.logdir import LogDir
from impala_tf.topology import Topology

LEARNER = "learner"


def learner(config: Config, tasks: TaskSet, topology: Topology, barrier: Any = None, spans: Any = None) -> Node:
    """Learns from what actors send."""
    return Node(LEARNER, functools.partial(_learn, config, tasks, topology, barrier, _spans(spans, LEARNER)), False)


def actors(
    config: Config, tasks: TaskSet, topology: Topology, barrier: Any = None, spans: pathlib.Path | None = None
) -> tuple[Node, ...]:
    """Act by themselves and send unrolls; with a barrier, the failure of one ends the run."""
    return tuple(
        Node(
            name := f"actor {number}",
            functools.partial(_act, config, tasks, topology, number, barrier, _spans(spans, name)),
            restarts=barrier is None,
        )
        for number in range(topology.num_actors)
    )


def environments(
    config: Config, tasks: TaskSet, topology: Topology, mailbox: PolicyMailbox, spans: pathlib.Path | None = None
) -> tuple[Node, ...]:
    """Step environments for the policy in another process."""
    # No process, restarted or resumed, plays the same games again.
    seed, frames = config.run.seed, LogDir(config.run.logdir).frames
    interval = config.run.log_interval
    return tuple(
        Node(
            name := f"actor {number}",
            functools.partial(
                _step, tasks, topology, number, mailbox.worker(number), (seed, frames), interval, _spans(spans, name)
            ),
        )
        for number in range(topology.num_actors)
    )


def _spans(folder: pathlib.Path | None, name: str) -> pathlib.Path | None:
    return folder / f"{name}.csv" if folder else None


def saving_stop() -> threading.Event:
    """In a learner's process: SIGTERM sets the event, which asks it to save and end. The launcher limits the time."""
    stop, _ = stop_on_signal(signal.SIG_IGN)
    return stop


def _ready() -> None:
    parent.send(parent.Ready())


# What follows runs in the nodes' processes.


def _learn(config, tasks, topology, barrier, spans, _starts: int) -> None:
    stop = saving_stop()
    from impala_tf.roles import learner as role

    _ready()
    role.run(config, tasks, topology, stop, barrier=barrier, spans=spans)


def _act(config, tasks, topology, number, barrier, spans, _starts: int) -> None:
    from impala_tf.roles import actor as role

    role.run(config, tasks, topology, number, address=topology.address, ready=_ready, barrier=barrier, spans=spans)


def _step(tasks, topology, number, mailbox: WorkerMailbox, seed, interval, spans, starts: int) -> None:
    from impala_tf.roles import environment as role

    run_seed, frames = seed
    numbers = [run_seed, number, starts, frames]
    role.run(tasks, topology, number, mailbox, numbers, ready=_ready, log_interval=interval, spans=spans)

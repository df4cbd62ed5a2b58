"""The nodes that architectures are made of: roles with their values filled in.

Roles are imported in the process that runs them, so describing a run does not import TensorFlow.
"""

from __future__ import annotations

import functools
import pathlib
import signal
import threading
from collections.abc import Callable
from typing import Any

from impala_tf.architectures.program import Node, Program
from impala_tf.config import Config
from impala_tf.environments.remote.mailbox import PolicyMailbox, WorkerMailbox
from impala_tf.environments.task_set import TaskSet
from impala_tf.processes import parent
from impala_tf.processes.gate import ActorGate, Gate
from impala_tf.processes.signals import stop_on_signal
from impala_tf.records.logdir import LogDir
from impala_tf.topology import Topology

LEARNER = "learner"
POLICY = "policy"
"""Name of the policy's spans, where it runs in the learner's process."""


def learners(
    config: Config,
    tasks: TaskSet,
    topology: Topology,
    spans: pathlib.Path | None = None,
    on_update: Callable[[Any, threading.Event], None] | None = None,
) -> tuple[Node, ...]:
    """Learn from the unrolls that actors send; `on_update` as for `impala_tf.roles.learner.run`, to be pickled."""
    count = len(topology.learners)
    return tuple(
        Node(
            name := LEARNER if count == 1 else f"{LEARNER} {rank}",
            functools.partial(_learn, config, tasks, topology, rank, on_update, spans_file(spans, name)),
        )
        for rank in range(count)
    )


def actors(
    config: Config,
    tasks: TaskSet,
    topology: Topology,
    spans: pathlib.Path | None = None,
    gate: Gate | None = None,
) -> tuple[Node, ...]:
    """Actors that run the policy themselves and, with a `gate`, wait there for each update.

    Without a gate, their work also takes `relay`, the host:port of their machine's, as a keyword.
    """
    return tuple(
        Node(
            name := f"actor {number}",
            functools.partial(
                _act,
                config,
                tasks,
                topology,
                number,
                gate.actor(number) if gate else None,
                spans_file(spans, name),
            ),
        )
        for number in range(topology.num_actors)
    )


def relay(
    config: Config,
    address: str,
    *,
    port: int = 0,
    name: str = "relay",
    ready: Callable[[str], None] | None = None,
) -> Node:
    """Passes parameters on to the actors of its machine. It is no part of an `Architecture`: a launcher may add it.

    Its work also takes `port` as a keyword, which then counts.

    Args:
      config: settings of the run, of --architecture=impala without a policy lag.
      address: address of a learner's server, host:port, as seen from the relay's machine. Any learner will do, also for
        actors that send to another: all have the same parameters.
      port: port of the relay's server; 0: a free one.
      name: of the node.
      ready: called in its process with the address of its server, localhost:port, before the launcher is told that the
        process works; to be pickled.
    """
    return Node(name, functools.partial(_relay, config, address, port=port, ready=ready))


def environments(
    config: Config, tasks: TaskSet, topology: Topology, mailbox: PolicyMailbox, spans: pathlib.Path | None = None
) -> tuple[Node, ...]:
    """Step environments for a policy in another process."""
    # A process of a resumed run does not play the same games again, and neither does one that is restarted (`_step`).
    seed = (config.run.seed, LogDir(config.run.logdir).frames)
    interval = config.run.log_interval
    return tuple(
        Node(
            name := f"actor {number}",
            functools.partial(
                _step, tasks, topology, number, mailbox.worker(number), seed, interval, spans_file(spans, name)
            ),
        )
        for number in range(topology.num_actors)
    )


def policy_and_environments(
    work: Callable[..., bool],
    config: Config,
    tasks: TaskSet,
    topology: Topology,
    spans: pathlib.Path | None = None,
) -> Program:
    """Returns the program of a learner that runs the policy for environments in other processes.

    Args:
      work: the learner's; called with the first three of the following, the `PolicyMailbox`, the files for the spans of
        learning and of acting, and the number of its starts.
      config, tasks, topology, spans: as for an `Architecture`.
    """
    mailbox = PolicyMailbox(tasks.spec, topology.num_actors, topology.envs_per_actor)
    files = spans_file(spans, LEARNER), spans_file(spans, POLICY)
    learns = functools.partial(work, config, tasks, topology, mailbox, files)
    return Program((Node(LEARNER, learns),), environments(config, tasks, topology, mailbox, spans))


def spans_file(folder: pathlib.Path | None, name: str) -> pathlib.Path | None:
    """Returns the CSV file for a process's spans, or None if there is no folder for them."""
    return folder / f"{name}.csv" if folder else None


def saving_stop() -> threading.Event:
    """Returns an event that SIGTERM or SIGHUP sets from now on, which asks a learner to save and end.

    Call it first in the learner's process. Further signals are ignored; the launcher limits the time.
    """
    stop, _ = stop_on_signal(signal.SIG_IGN)
    return stop


def say_ready() -> None:
    """Tells the launcher that this process works."""
    parent.send(parent.Ready())


# The functions below run in the nodes' processes.


def _learn(config, tasks, topology, rank, on_update, spans, _starts: int) -> bool:
    stop = saving_stop()
    from impala_tf.roles import learner as role

    optional = {"on_update": on_update} if on_update else {}
    role.run(config, tasks, topology, stop, rank=rank, spans=spans, **optional)
    return stop.is_set()


def _act(config, tasks, topology, number, gate: ActorGate | None, spans, starts: int, relay: str = "") -> None:
    if gate and starts:
        gate.restart()
    from impala_tf.roles import actor as role

    role.run(
        config,
        tasks,
        topology,
        number,
        address=topology.server_of(number),
        ready=say_ready,
        relay=relay,
        gate=gate,
        spans=spans,
    )


def _relay(config, address, _starts: int, *, port: int, ready) -> None:
    from impala_tf.roles import relay as role

    def tell(own: str) -> None:
        if ready:
            ready(own)
        say_ready()

    role.run(config, address=address, port=port, ready=tell)


def _step(tasks, topology, number, mailbox: WorkerMailbox, seed, interval, spans, starts: int) -> None:
    from impala_tf.roles import environment as role

    run_seed, frames = seed
    numbers = [run_seed, number, starts, frames]
    role.run(tasks, topology, number, mailbox, numbers, ready=say_ready, log_interval=interval, spans=spans)

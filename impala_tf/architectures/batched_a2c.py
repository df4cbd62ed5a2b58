"""Batched A2C: the synchronous schemes that the paper compares IMPALA with (Figure 2, Table 1)."""

from __future__ import annotations

import functools
import pathlib

from impala_tf.architectures import nodes
from impala_tf.architectures.program import Node, Program
from impala_tf.config import Config
from impala_tf.environments.remote.mailbox import PolicyMailbox
from impala_tf.environments.task_set import TaskSet
from impala_tf.errors import UserError
from impala_tf.processes.child import FORK_SERVER
from impala_tf.topology import Topology


def sync_step(config: Config, tasks: TaskSet, topology: Topology, spans: pathlib.Path | None = None) -> Program:
    """Synchronized every step: the learner's process acts for all environments at once, when the last has answered.

    Args:
      config, tasks, topology: of the run.
      spans: folder in which each process records the spans of its activities; None: none does.

    Raises:
      UserError: a batch is not one unroll of each environment.
    """
    _check_batch(config, topology)
    mailbox = PolicyMailbox(tasks.spec, topology.num_actors, topology.envs_per_actor)
    work = functools.partial(_act_and_learn, config, tasks, topology, mailbox, spans)
    return Program(
        Node(nodes.LEARNER, work, restarts=False), nodes.environments(config, tasks, topology, mailbox, spans)
    )


def sync_trajectory(config: Config, tasks: TaskSet, topology: Topology, spans: pathlib.Path | None = None) -> Program:
    """Synchronized every trajectory: actors act by themselves, and wait after each unroll for the update on it.

    The arguments and errors are those of `sync_step`. An actor that fails ends the run: the others wait for it.
    """
    _check_batch(config, topology)
    barrier = FORK_SERVER.Barrier(topology.num_actors + 1)
    return Program(
        nodes.learner(config, tasks, topology, barrier, spans), nodes.actors(config, tasks, topology, barrier, spans)
    )


def _check_batch(config: Config, topology: Topology) -> None:
    environments = topology.num_actors * topology.envs_per_actor
    if config.data.batch_size != environments:
        raise UserError(
            f"--batch_size={config.data.batch_size}: batched A2C learns from one unroll of each of the "
            f"{topology.num_actors} x {topology.envs_per_actor} environments; set it to {environments}."
        )


def _act_and_learn(config, tasks, topology, mailbox, spans, _starts: int) -> None:
    stop = nodes.saving_stop()
    from impala_tf.roles import lockstep_learner

    files = (spans / f"{nodes.LEARNER}.csv", spans / "policy.csv") if spans else (None, None)
    lockstep_learner.run(config, tasks, topology, stop, mailbox, files)

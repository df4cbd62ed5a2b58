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
    """Synchronized after every step: the learner's process acts for all environments once the last has answered.

    Args:
      config: settings of the run.
      tasks: tasks of the run.
      topology: topology of the run.
      spans: existing folder in which each process records the spans of its activities; None: none does.

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
    """Synchronized after every trajectory: actors run the policy and wait after each unroll for the update on it.

    An actor that fails ends the run, because all others wait for it. Arguments and errors are those of `sync_step`.
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
            f"--batch_size={config.data.batch_size}: batched A2C learns from one unroll of each environment; set it to "
            f"{environments} ({topology.num_actors} actors with {topology.envs_per_actor} environments each)."
        )


def _act_and_learn(config, tasks, topology, mailbox, spans, _starts: int) -> None:
    stop = nodes.saving_stop()
    from impala_tf.roles import lockstep_learner

    files = nodes.spans_file(spans, nodes.LEARNER), nodes.spans_file(spans, nodes.POLICY)
    lockstep_learner.run(config, tasks, topology, stop, mailbox, files)

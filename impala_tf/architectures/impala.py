"""IMPALA (section 3): actors that never wait for one another, and a learner."""

from __future__ import annotations

import functools
import pathlib

from impala_tf.architectures import nodes
from impala_tf.architectures.program import Node, Program
from impala_tf.config import Config
from impala_tf.environments.remote.mailbox import PolicyMailbox
from impala_tf.environments.task_set import TaskSet
from impala_tf.topology import Topology


def program(config: Config, tasks: TaskSet, topology: Topology, spans: pathlib.Path | None = None) -> Program:
    """The run that the settings describe.

    Args:
      config, tasks, topology: of the run.
      spans: folder in which each process records the spans of its activities; None: none does.
    """
    return (central_inference if config.launch.inference == "central" else actor_inference)(
        config, tasks, topology, spans
    )


def actor_inference(config: Config, tasks: TaskSet, topology: Topology, spans: pathlib.Path | None = None) -> Program:
    """Each actor runs the policy for its own environments."""
    return Program(
        nodes.learner(config, tasks, topology, spans=spans), nodes.actors(config, tasks, topology, spans=spans)
    )


def central_inference(config: Config, tasks: TaskSet, topology: Topology, spans: pathlib.Path | None = None) -> Program:
    """The learner's process runs the policy for the environments of all others (Table 1: dynamic batching)."""
    mailbox = PolicyMailbox(tasks.spec, topology.num_actors, topology.envs_per_actor)
    work = functools.partial(_learn_and_infer, config, tasks, topology, mailbox, spans)
    return Program(
        Node(nodes.LEARNER, work, restarts=False), nodes.environments(config, tasks, topology, mailbox, spans)
    )


def _learn_and_infer(config, tasks, topology, mailbox, spans, _starts: int) -> None:
    stop = nodes.saving_stop()
    from impala_tf.roles import central_learner

    central_learner.run(config, tasks, topology, stop, mailbox, spans and spans / f"{nodes.LEARNER}.csv")

"""IMPALA (section 3): a learner, and actors that never wait for each other unless a policy lag is set."""

from __future__ import annotations

import pathlib

from impala_tf.architectures import gated, nodes
from impala_tf.architectures.program import Program
from impala_tf.config import Config
from impala_tf.environments.task_set import TaskSet
from impala_tf.topology import Topology


def program(config: Config, tasks: TaskSet, topology: Topology, spans: pathlib.Path | None = None) -> Program:
    """Returns the program of a run, as `config.launch.inference` and `config.data.policy_lag` say.

    Args:
      config: settings of the run.
      tasks: tasks of the run.
      topology: topology of the run.
      spans: existing folder in which each process records the spans of its activities; None: none does.
    """
    if config.data.policy_lag >= 0:
        return gated.program(config, tasks, topology, spans)
    chosen = central_inference if config.launch.inference == "central" else actor_inference
    return chosen(config, tasks, topology, spans)


def actor_inference(config: Config, tasks: TaskSet, topology: Topology, spans: pathlib.Path | None = None) -> Program:
    """Returns a program in which each actor runs the policy for its own environments."""
    return Program(nodes.learners(config, tasks, topology, spans), nodes.actors(config, tasks, topology, spans))


def central_inference(config: Config, tasks: TaskSet, topology: Topology, spans: pathlib.Path | None = None) -> Program:
    """Returns a program in which the learner's process runs the policy for all environments, in dynamic batches."""
    return nodes.policy_and_environments(_learn_and_infer, config, tasks, topology, spans)


def _learn_and_infer(config, tasks, topology, mailbox, spans, _starts: int) -> bool:
    stop = nodes.saving_stop()
    from impala_tf.roles import central_learner

    central_learner.run(config, tasks, topology, stop, mailbox, spans)
    return stop.is_set()

"""Batched A2C: the synchronous schemes that the paper compares IMPALA with (Figure 2, Table 1).

A batch is one unroll of each environment, acted with the parameters of the update before: the policy lag is 0.
"""

from __future__ import annotations

import pathlib

from impala_tf.architectures import gated, nodes
from impala_tf.architectures.program import Program
from impala_tf.config import Config
from impala_tf.environments.task_set import TaskSet
from impala_tf.topology import Topology


def sync_step(config: Config, tasks: TaskSet, topology: Topology, spans: pathlib.Path | None = None) -> Program:
    """Synchronized after every step: the learner's process acts for all environments once the last has answered.

    Args:
      config: settings of the run.
      tasks: tasks of the run.
      topology: topology of the run.
      spans: existing folder in which each process records the spans of its activities; None: none does.
    """
    return nodes.policy_and_environments(_in_lockstep, config, tasks, topology, spans)


def sync_trajectory(config: Config, tasks: TaskSet, topology: Topology, spans: pathlib.Path | None = None) -> Program:
    """Synchronized after every trajectory, as `config.launch.inference` says; arguments as for `sync_step`.

    The policy runs in the actors, which wait after each unroll for the update on it; or it runs in the learner's
    process, in dynamic batches, for the environments that have not finished their unroll ("dyn. batch" in Table 1).
    """
    if config.launch.inference == "central":
        return nodes.policy_and_environments(_in_dynamic_batches, config, tasks, topology, spans)
    return gated.program(config, tasks, topology, spans)


def _in_lockstep(config, tasks, topology, mailbox, spans, _starts: int) -> bool:
    return _act_and_learn(config, tasks, topology, mailbox, spans, dynamic_batches=False)


def _in_dynamic_batches(config, tasks, topology, mailbox, spans, _starts: int) -> bool:
    return _act_and_learn(config, tasks, topology, mailbox, spans, dynamic_batches=True)


def _act_and_learn(config, tasks, topology, mailbox, spans, dynamic_batches: bool) -> bool:
    stop = nodes.saving_stop()
    from impala_tf.roles import lockstep_learner

    lockstep_learner.run(config, tasks, topology, stop, mailbox, spans, dynamic_batches=dynamic_batches)
    return stop.is_set()

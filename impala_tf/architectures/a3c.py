"""A3C (Mnih et al., 2016): workers act and compute gradients, and the learner's process applies them one at a time."""

from __future__ import annotations

import functools
import pathlib

from impala_tf.architectures import nodes
from impala_tf.architectures.program import Node, Program
from impala_tf.config import Config
from impala_tf.environments.task_set import TaskSet
from impala_tf.topology import Topology


def program(config: Config, tasks: TaskSet, topology: Topology, spans: pathlib.Path | None = None) -> Program:
    """Returns the program of a run; a worker that fails is replaced, as its gradients arrive whole or not at all.

    Args:
      config: settings of the run.
      tasks: tasks of the run.
      topology: topology of the run.
      spans: existing folder in which each process records the spans of its activities; None: none does.
    """
    learner = functools.partial(_learn, config, tasks, topology, nodes.spans_file(spans, nodes.LEARNER))
    workers = tuple(
        Node(
            name := f"actor {number}",
            functools.partial(_work, config, tasks, topology, number, nodes.spans_file(spans, name)),
        )
        for number in range(topology.num_actors)
    )
    return Program((Node(nodes.LEARNER, learner),), workers)


# The functions below run in the nodes' processes.


def _learn(config, tasks, topology, spans, _starts: int) -> bool:
    stop = nodes.saving_stop()
    from impala_tf.roles import a3c_learner

    a3c_learner.run(config, tasks, topology, stop, spans=spans)
    return stop.is_set()


def _work(config, tasks, topology, number, spans, _starts: int) -> None:
    from impala_tf.roles import a3c_worker

    a3c_worker.run(
        config, tasks, topology, number, address=topology.server_of(number), ready=nodes.say_ready, spans=spans
    )

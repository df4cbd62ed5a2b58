"""Actors with a policy of their own that wait for every update: batched A2C (Table 1), IMPALA with a set policy lag."""

from __future__ import annotations

import functools
import pathlib
import threading
from typing import TYPE_CHECKING

from impala_tf.architectures import nodes
from impala_tf.architectures.program import Program
from impala_tf.config import Config
from impala_tf.environments.task_set import TaskSet
from impala_tf.processes.child import FORK_SERVER
from impala_tf.processes.gate import Gate
from impala_tf.topology import Topology

if TYPE_CHECKING:  # It imports TensorFlow.
    from impala_tf.roles.learner import Training


def program(config: Config, tasks: TaskSet, topology: Topology, spans: pathlib.Path | None = None) -> Program:
    """Returns the program of a run in which an update takes one unroll of each environment, and all wait for it.

    An actor that fails is replaced; the others wait for its unrolls. Arguments as for an `Architecture`.
    """
    gate = Gate(FORK_SERVER, [topology.envs_per_actor] * topology.num_actors)
    return Program(
        nodes.learners(config, tasks, topology, spans, functools.partial(_open, gate)),
        nodes.actors(config, tasks, topology, spans, gate),
    )


def _open(gate: Gate, training: Training, _stop: threading.Event) -> None:
    """Lets the actors go on, once they can pull the parameters of the last update."""
    training.wait_until_published()
    gate.open()

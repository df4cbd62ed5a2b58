"""What a learner takes in for each of its updates: a batch of unrolls here, a worker's gradient in A3C."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import tensorflow as tf

from impala_tf.config import Config
from impala_tf.environments.task_set import TaskSet
from impala_tf.learning.learner import Learner
from impala_tf.roles import agreement
from impala_tf.structures import Batch
from impala_tf.topology import Topology
from impala_tf.transport.learner_end import LearnerEnd, ServingEnd
from impala_tf.transport.signatures import trajectory_signature, unroll_signature


class Intake(Protocol):
    """Samples what others send and updates a learner with it.

    Attributes:
      end: the learner's end of the transport.
      what: what is taken in, in the plural, for messages.
    """

    @property
    def end(self) -> ServingEnd: ...

    what: str

    def trace(self) -> None:
        """Builds the update's graph, which takes seconds; others start in the meantime."""

    def next(self, timeout: float) -> Any | None:
        """Returns what the next update takes, or None if there is nothing within `timeout` seconds."""

    def learn(self, taken: Any) -> tuple[Batch, dict[str, tf.Tensor]]:
        """Does one update with what `next` has returned.

        Returns:
          The unrolls that it counts, of which `structures.logged` fields are enough, and the update's metrics.
        """


MakeIntake = Callable[..., Intake]
"""Called with the settings, the tasks, the topology and the learner, and with `make_publisher`, as for `ServingEnd`."""


def served(
    config: Config, tasks: TaskSet, topology: Topology, learner: Learner, make_publisher: Callable
) -> dict[str, Any]:
    """Returns the options of a learner's `ServingEnd`: its port, what it tells, and its publisher."""
    return {
        "port": int(topology.learners[learner.group.rank].server.rpartition(":")[2] or 0),
        "told": agreement.told(config, tasks, topology),
        "make_publisher": make_publisher,
    }


class UnrollIntake:
    """Batches of unrolls, as in IMPALA."""

    what = "unrolls"

    def __init__(
        self, config: Config, tasks: TaskSet, topology: Topology, learner: Learner, *, make_publisher: Callable
    ):
        """Starts the server.

        Args:
          config: settings of the run.
          tasks: tasks of the run.
          topology: topology of the run; the server listens on the port of its address, or on a free one if that is 0.
          learner: what learns.
          make_publisher: as for `ServingEnd`.

        Raises:
          UserError: as for `LearnerEnd`.
        """
        self._learner, self._batch_size = learner, config.data.batch_size
        unroll = (tasks.spec, learner.agent.core_state_spec, config.data.unroll_length)
        self._unroll = trajectory_signature(*unroll)
        variables = learner.agent.trainable_variables
        options = served(config, tasks, topology, learner, make_publisher)
        self.end = LearnerEnd(config.data, unroll_signature(*unroll), variables, **options)

    def trace(self) -> None:
        """Builds the update's graph."""
        self._learner.trace(self._unroll, self._batch_size)

    def next(self, timeout: float) -> Batch | None:
        """Returns the next time-major batch, or None if there is none within `timeout` seconds."""
        return self.end.next_batch(timeout)

    def learn(self, taken: Batch) -> tuple[Batch, dict[str, tf.Tensor]]:
        """Does one update on a batch."""
        return taken, self._learner.step(taken)

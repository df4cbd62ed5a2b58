"""The two ends of the transport in A3C: workers send gradients, and the learner applies them.

A worker learns that its gradient has been applied from the parameters themselves: with them, the learner publishes the
ticket of each worker's last applied contribution. So a worker that has seen its own ticket holds parameters that its
gradient has changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import reverb
import tensorflow as tf
import tree

from impala_tf.config import DataConfig
from impala_tf.structures import Contribution, Trajectory, logged
from impala_tf.transport import GRADIENTS, VARIABLES, connection, server
from impala_tf.transport.actor_end import Exchange, LearnerLink
from impala_tf.transport.dataset import in_one_thread, items
from impala_tf.transport.learner_end import ServingEnd

_POLL_SECONDS = 0.001
_TICKETS_OF_A_PROCESS = 2**32  # More than it will use; they are consecutive.


def contribution_signature(gradients: Any, unroll: Trajectory, num_envs: int) -> Contribution:
    """Returns the signature of a contribution.

    Args:
      gradients: `tf.TensorSpec`s of `impala_tf.learning.gradients.Gradients`.
      unroll: signature of one unroll, from `trajectory_signature`.
      num_envs: B, number of environments of a worker.
    """
    kept = logged(unroll)
    unrolls = tf.nest.map_structure(lambda x: tf.TensorSpec([*x.shape, num_envs], x.dtype), kept)
    worker, ticket = tf.TensorSpec((), tf.int32), tf.TensorSpec((), tf.int64)
    return Contribution(worker, ticket, gradients, unrolls, tf.TensorSpec([num_envs], tf.bool))


class Applied:
    """Which contribution of each worker was applied last, in a variable that is published with the parameters.

    Attributes:
      variable: int64 [num_workers], tickets; a negative number that only this learner has where there is none yet.
    """

    def __init__(self, num_workers: int):
        """No contribution has been applied yet."""
        self._tickets = np.full(num_workers, -_random_ticket())
        self.variable = tf.Variable(self._tickets, trainable=False, name="applied")

    def has(self, worker: int, ticket: int) -> bool:
        """Whether a contribution has been applied.

        Reverb's writer sends an item again if the connection broke before it was confirmed. A queue that has given the
        item out in the meantime takes it for a new one.
        """
        return 0 <= self._tickets[worker] - ticket < _TICKETS_OF_A_PROCESS

    def add(self, worker: int, ticket: int) -> None:
        """Notes that a contribution has been applied."""
        self._tickets[worker] = ticket
        self.variable.assign(self._tickets)


class GradientLearnerEnd(ServingEnd):
    """Everything between the workers and the learner."""

    def __init__(self, data: DataConfig, contribution: Contribution, variables: Sequence[tf.Variable], **options: Any):
        """Starts the server and begins to sample. If that fails, nothing is left running.

        Args:
          data: tables and queue size.
          contribution: signature of one contribution, from `contribution_signature`.
          variables: the parameters that `publish` publishes, and last `Applied.variable`.
          **options: as for `ServingEnd`.

        Raises:
          UserError: as for `server.read_config` and `server.Server`.
        """
        tables, _ = server.read_config(data.gradient_tables, data.queue_size, GRADIENTS)

        def draw(address: str) -> tf.data.Dataset:
            return in_one_thread(items(address, GRADIENTS, contribution, in_flight=1))

        super().__init__(tables, contribution, draw, 1, variables, **options)

    def next_contribution(self, timeout: float) -> Contribution | None:
        """Returns the next contribution, or None if there is none within `timeout` seconds."""
        return self._queue.get(timeout)


class GradientWorkerEnd(LearnerLink):
    """Everything between a worker and the learner, made and stopped as one. Use it in a `with` statement.

    Attributes:
      learner_step: learner step of the parameters that were pulled last.
    """

    def __init__(
        self,
        address: str,
        number: int,
        terms: Callable[[dict[str, Any]], tuple[Contribution, int]],
        variables: Sequence[tf.Variable],
        **options: Any,
    ):
        """Connects, as `LearnerLink` does, and opens the writer. If that fails, nothing is left running.

        Args:
          address: address of the learner's server, host:port.
          number: number of this worker.
          terms: called with what the learner tells about the run; returns the signature of one contribution, from
            `contribution_signature`, and the number of the learner's workers.
          variables: the variables that `refresh` overwrites, in the learner's order.
          **options: `timeout`, `check` and `on_end`, as for `LearnerLink`.

        Raises:
          UserError: nothing answers in time, or the learner expects something else.
        """
        self._number = number

        def exchange(told: dict[str, Any]) -> Exchange:
            contribution, num_workers = terms(told)
            self._num_envs = contribution.played.shape[0]
            self._applied = tf.Variable(np.zeros(num_workers, np.int64), trainable=False)
            return Exchange("gradients", GRADIENTS, contribution, [*variables, self._applied])

        super().__init__(address, exchange, **options)
        self._questions, self._pushes = connection.Questions(address), 0
        self._ticket: int | None = None
        self._before = self._last
        # Not those of an earlier process with this number, whose contribution may still be in the queue.
        self._next_ticket = _random_ticket()
        self._writer = reverb.Client(address).trajectory_writer(num_keep_alive_refs=1)
        self._open.callback(self._writer.close)

    def contribute(self, gradients: Any, unrolls: Trajectory) -> None:
        """Sends one contribution in the background: one append and one item, so it arrives whole or not at all.

        Args:
          gradients: `Gradients` of the unrolls.
          unrolls: time-major [T + 1, N, ...], of the N environments that did not fail.
        """
        self._pushes = self._published()  # What is published later may have been changed by this contribution.
        self._before, self._ticket = self._last, self._next_ticket
        self._next_ticket += 1
        played = np.arange(self._num_envs) < unrolls.task_id.shape[0]

        def padded(array: np.ndarray) -> np.ndarray:  # Reverb's columns have one shape.
            whole = np.zeros((*array.shape[:-1], self._num_envs), array.dtype)
            whole[..., played] = array
            return whole

        self._writer.append(
            Contribution(
                np.int32(self._number),
                np.int64(self._ticket),
                tree.map_structure(np.asarray, gradients),
                tree.map_structure(padded, logged(unrolls)),
                played,
            )
        )
        newest = tree.map_structure(lambda column: column[-1], self._writer.history)
        self._writer.create_item(GRADIENTS, priority=1.0, trajectory=newest)

    def flush(self, timeout: float) -> bool:
        """Waits until the server has taken the contribution; False if `timeout` seconds passed first."""
        try:
            self._writer.flush(timeout_ms=int(timeout * 1000))
        except reverb.errors.DeadlineExceededError:
            return False
        return True

    @property
    def applied(self) -> bool:
        """Whether the last contribution, if any, has changed the parameters that were pulled last.

        Also true if they come from another learner than before, as after its restart: what was sent to the one before
        may be lost.
        """
        return self._ticket in (None, self._last) or (self._last < 0 and self._last != self._before)

    def wait_for_publication(self, timeout: float) -> bool:
        """Waits until something has been published; False if `timeout` seconds passed first.

        What was published before the last call, or before the last contribution was sent, does not count.
        """
        deadline = time.monotonic() + timeout
        while True:
            before, self._pushes = self._pushes, self._published()
            if self._pushes != before:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)

    def _published(self) -> int:
        """Returns how often the learner has published; as before if it does not answer within 5 s."""
        tables = self._questions.ask()
        return tables[VARIABLES].rate_limiter_info.insert_stats.completed if tables else self._pushes

    def refresh(self) -> int:
        """Pulls the newest parameters and returns the learner step that made them."""
        self.learner_step = super().refresh()
        return self.learner_step

    @property
    def _last(self) -> int:
        return int(self._applied[self._number])


def _random_ticket() -> int:
    """Returns a number that no other process draws; there is room above it for a ticket for each contribution."""
    return int(np.random.default_rng().integers(1, 2**62))

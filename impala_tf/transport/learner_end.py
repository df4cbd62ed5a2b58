"""The learner's end of the transport: server, batches of unrolls, published parameters."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import tensorflow as tf

from impala_tf.config import DataConfig
from impala_tf.structures import Batch, Trajectory
from impala_tf.transport import server
from impala_tf.transport.dataset import BatchQueue, make_dataset
from impala_tf.transport.variables import VariablePublisher


class Publisher(Protocol):
    """Makes the learner's parameters known; `VariablePublisher` and `LocalVariables`."""

    def publish(self, learner_step: int) -> None:
        """Publishes the variables' present values."""

    def wait_until_pushed(self, timeout: float) -> bool:
        """Waits until actors can have what was published last; False after `timeout` seconds."""

    def stop(self) -> None:
        """Ends what the publisher started."""


class LearnerEnd:
    """Everything between the actors and a learner, made and stopped as one. Use it in a `with` statement.

    Attributes:
      address: of the server, localhost:port.
    """

    def __init__(
        self,
        data: DataConfig,
        unroll: Trajectory,
        variables: Sequence[tf.Variable],
        *,
        port: int = 0,
        told: dict[str, Any] | None = None,
        make_publisher: Callable[[str, Sequence[tf.Variable]], Publisher] = VariablePublisher,
    ):
        """Starts the server and begins to sample. If that fails, nothing is left running.

        Args:
          data: tables, queue, batch size and prefetch.
          unroll: signature of one unroll on the wire, as `unroll_signature` gives it.
          variables: the parameters that `publish` publishes.
          port: of the server; 0: a free one.
          told: what actors may ask about the run, JSON-able.
          make_publisher: takes the server's address and the variables.

        Raises:
          UserError: as `server.load_config` and `server.Server`.
        """
        config = server.load_config(data)
        with contextlib.ExitStack() as stack:
            running = stack.enter_context(server.Server(config, unroll, variables, port, told))
            self.address = running.address
            self._publisher = make_publisher(self.address, variables)
            stack.callback(self._publisher.stop)
            self._batches = BatchQueue(make_dataset(self.address, unroll, data.batch_size), data.prefetch)
            stack.callback(self._batches.stop)
            self._open = stack.pop_all()

    def publish(self, learner_step: int) -> None:
        """Publishes the parameters as those of `learner_step`."""
        self._publisher.publish(learner_step)

    def wait_until_published(self, timeout: float) -> bool:
        """Waits until actors can pull the parameters published last; False after `timeout` seconds."""
        return self._publisher.wait_until_pushed(timeout)

    def next_batch(self, timeout: float) -> Batch | None:
        """The next time-major batch, or None if there is none within `timeout` seconds."""
        return self._batches.get(timeout)

    def stop(self) -> None:
        """Stops sampling, publishing and serving, in that order."""
        self._open.close()

    def __enter__(self) -> LearnerEnd:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

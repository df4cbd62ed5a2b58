"""The learner's end of the transport: server, batches of unrolls, published parameters."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import tensorflow as tf

from impala_tf.config import DataConfig
from impala_tf.structures import Batch, Trajectory
from impala_tf.transport import replay, server
from impala_tf.transport.connection import TELL_SECONDS
from impala_tf.transport.dataset import BatchQueue, make_dataset
from impala_tf.transport.delay import DelayedPublisher
from impala_tf.transport.variables import VariablePublisher

_STOP_SECONDS = 5.0

_End = TypeVar("_End", bound="ServingEnd")


class Publisher(Protocol):
    """Publishes the learner's parameters: `VariablePublisher`, `LocalVariables`, `DelayedPublisher`."""

    def publish(self, learner_step: int) -> None:
        """Publishes the variables' current values as those of `learner_step`."""

    def wait_until_pushed(self, timeout: float) -> bool:
        """Waits until actors can pull what was published last; False after `timeout` seconds."""

    def stop(self) -> None:
        """Ends what the publisher started; may be called again."""


class ServingEnd:
    """The learner's end, whatever the learner samples. Made and stopped as one; use it in a `with` statement.

    Attributes:
      address: address of the server, localhost:port.
    """

    def __init__(
        self,
        tables: server.reverb_config_pb2.ReverbServerConfig,
        signature: Any,
        make_dataset: Callable[[str], tf.data.Dataset],
        prefetch: int,
        variables: Sequence[tf.Variable],
        *,
        port: int = 0,
        told: dict[str, Any] | None = None,
        make_publisher: Callable[[str, Sequence[tf.Variable]], Publisher] = VariablePublisher,
    ):
        """Starts the server and begins to sample. If that fails, nothing is left running.

        Args:
          tables: the server's tables.
          signature: signature of what is sampled, as for `server.Server`.
          make_dataset: called with the server's address; returns what is sampled.
          prefetch: elements of the dataset that may wait ready, in addition to the one being drawn.
          variables: the parameters that `publish` publishes.
          port: port of the server; 0: a free one.
          told: facts about the run that actors can read (`ActorEnd.told`); must be serializable as JSON.
          make_publisher: called with the server's address and the variables.

        Raises:
          UserError: as for `server.Server`.
        """
        with contextlib.ExitStack() as stack:
            running = stack.enter_context(server.Server(tables, signature, variables, port, told))
            self.address, self._server = running.address, running
            self._publisher = make_publisher(self.address, variables)
            stack.callback(self._publisher.stop)
            self._queue = BatchQueue(make_dataset(self.address), prefetch)
            stack.callback(self._queue.stop)
            self._open = stack.pop_all()

    def publish(self, learner_step: int) -> None:
        """Publishes the current parameters as those of `learner_step`.

        Raises:
          Exception: the error of an earlier push.
        """
        self._publisher.publish(learner_step)

    def wait_until_published(self, timeout: float) -> bool:
        """Waits until actors can pull the parameters published last; False after `timeout` seconds.

        Raises:
          Exception: the error of the push.
        """
        return self._publisher.wait_until_pushed(timeout)

    def tell_finished(self) -> None:
        """Tells actors that the run has finished, and waits until those that can be reached know it."""
        self._server.tell_finished()
        time.sleep(TELL_SECONDS)

    def stop(self) -> None:
        """Stops sampling, publishing and serving, in that order; calling it again does nothing."""
        self._open.close()
        self._queue.join(_STOP_SECONDS)

    def __enter__(self: _End) -> _End:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class LearnerEnd(ServingEnd):
    """Everything between the actors and a learner that samples batches of unrolls."""

    def __init__(
        self,
        data: DataConfig,
        unroll: Trajectory,
        variables: Sequence[tf.Variable],
        *,
        make_publisher: Callable[[str, Sequence[tf.Variable]], Publisher] = VariablePublisher,
        **options: Any,
    ):
        """Starts the server and begins to sample. If that fails, nothing is left running.

        Args:
          data: tables and their sizes, batch size, share of replayed unrolls, prefetch and policy lag.
          unroll: signature of one unroll, from `unroll_signature`.
          variables: the parameters that `publish` publishes.
          make_publisher: called with the server's address and the variables.
          **options: `port` and `told`, as for `ServingEnd`.

        Raises:
          UserError: as for `server.load_config`, `replay.check_memory`, `server.Server` and `DelayedPublisher`.
        """
        tables = server.load_config(data)
        if data.replay_fraction:
            replay.check_memory(unroll, data.replay_size)
        if data.policy_lag > 0:
            make_publisher = functools.partial(DelayedPublisher, make_publisher, updates=data.policy_lag)

        def draw(address: str) -> tf.data.Dataset:
            fresh = data.fresh_batch_size
            return make_dataset(address, unroll, fresh, data.batch_size - fresh)

        super().__init__(tables, unroll, draw, data.prefetch, variables, make_publisher=make_publisher, **options)

    def next_batch(self, timeout: float) -> Batch | None:
        """Returns the next time-major batch, or None if there is none within `timeout` seconds."""
        return self._queue.get(timeout)

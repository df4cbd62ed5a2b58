"""Publishes parameters with a set delay, so that actors act with old ones (Figure E.1)."""

from __future__ import annotations

import collections
import logging
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from impala_tf import machine
from impala_tf.errors import UserError

_LOGGER = logging.getLogger(__name__)


class DelayedPublisher:
    """A `Publisher` that publishes, with each update's parameters, those of `updates` updates before.

    While there are none so old, which is so after every start, it publishes the oldest.
    """

    def __init__(self, make_publisher: Callable, address: str, variables: Sequence[tf.Variable], updates: int):
        """Makes the publisher that does the work.

        Args:
          make_publisher: called with the server's address and the variables to publish.
          address: address of the learner's server, host:port.
          variables: the parameters.
          updates: the delay, in updates.

        Raises:
          UserError: the copies of the parameters do not fit into this machine's memory.
        """
        _check_memory(variables, updates)
        self._variables = list(variables)
        self._delayed = [tf.Variable(variable, trainable=False) for variable in variables]
        self._publisher = make_publisher(address, self._delayed)
        self._line: collections.deque[tuple[int, list[np.ndarray]]] = collections.deque(maxlen=updates + 1)

    def publish(self, learner_step: int) -> None:
        """Copies the variables as those of `learner_step`, and publishes the oldest copy as those of its own step."""
        # NumPy's copies lie in the machine's memory even if the variables are a GPU's.
        self._line.append((learner_step, [np.array(variable) for variable in self._variables]))
        oldest_step, oldest = self._line[0]
        for variable, value in zip(self._delayed, oldest):
            variable.assign(value)
        self._publisher.publish(oldest_step)

    def wait_until_pushed(self, timeout: float) -> bool:
        """As for the publisher that does the work."""
        return self._publisher.wait_until_pushed(timeout)

    def stop(self) -> None:
        """As for the publisher that does the work."""
        self._publisher.stop()


def _check_memory(variables: Sequence[tf.Variable], updates: int) -> None:
    """Logs what the copies of the parameters take; raises UserError if there is not as much memory."""
    needed = (updates + 1) * sum(variable.dtype.size * variable.shape.num_elements() for variable in variables)
    available = machine.available_memory()
    taken, left = machine.size_text(needed), machine.size_text(available)
    _LOGGER.info("policy lag %d: copies of the parameters take %s", updates, taken)
    if needed > available:
        raise UserError(
            f"--policy_lag={updates}: its copies of the parameters take {taken}, but this machine has {left} of memory "
            "left; use a smaller lag or network."
        )

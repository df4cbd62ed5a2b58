"""Sends parameters from the learner to the actors through TF-Agents' Reverb variable container."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tf_agents.experimental.distributed import reverb_variable_container

from impala_tf.errors import UserError
from impala_tf.transport import VARIABLES, connection

_LOGGER = logging.getLogger(__name__)
_STOP_SECONDS = 5.0


class VariablePublisher:
    """The learner's side: publishes parameters without holding up training.

    `publish` copies the variables, between two updates; a thread pushes the copy. If pushing is slower than training,
    only the newest copy is pushed and the others are dropped.
    """

    def __init__(self, address: str, variables: Sequence[tf.Variable]):
        """Starts the thread.

        Args:
          address: address of the learner's server, host:port.
          variables: the parameters.
        """
        self._variables = list(variables)
        self._container = reverb_variable_container.ReverbVariableContainer(address, [VARIABLES])
        self._copy = tf.function(lambda: [tf.identity(v) for v in self._variables], autograph=False)
        self._changed = threading.Condition()
        self._newest: dict[str, Any] | None = None
        self._error: Exception | None = None
        self._pushing = False
        self._stopped = False
        self._thread = threading.Thread(target=self._push, name="variable-publisher", daemon=True)
        self._thread.start()

    def publish(self, learner_step: int) -> None:
        """Copies the variables, to be pushed as those of `learner_step`.

        Raises:
          Exception: the error of an earlier push.
        """
        # NumPy's, because TensorFlow keeps the tensors of Python's numbers for ever.
        values = {"learner_step": tf.constant(np.int64(learner_step)), "variables": self._copy()}
        with self._changed:
            if self._error is not None:
                raise self._error
            self._newest = values
            self._changed.notify_all()

    def wait_until_pushed(self, timeout: float) -> bool:
        """Waits until the newest copy has been pushed; False if that takes longer than `timeout` seconds.

        Raises:
          Exception: the error of this push or an earlier one.
        """

        def settled() -> bool:
            return self._error is not None or (self._newest is None and not self._pushing)

        with self._changed:
            pushed = self._changed.wait_for(settled, timeout)
            if self._error is not None:
                raise self._error
            return pushed

    def _push(self) -> None:
        while True:
            with self._changed:
                self._pushing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._newest is not None or self._stopped)
                if self._stopped:
                    return
                values, self._newest, self._pushing = self._newest, None, True
            try:
                self._container.push(values, VARIABLES)
            except Exception as error:  # Raised again in the training thread, when it next publishes or waits.
                with self._changed:
                    self._error = error
                    self._pushing = False
                    self._changed.notify_all()
                return

    def stop(self) -> None:
        """Ends the thread, after a push in progress; waits at most 5 s. Copies that were not pushed are dropped."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(_STOP_SECONDS)


class VariableClient:
    """An actor's side: pulls the newest parameters into its own variables."""

    def __init__(self, address: str, variables: Sequence[tf.Variable], timeout: float, whose: str = "learner"):
        """Waits until the server has parameters for the first time: no actor starts on parameters of its own.

        Args:
          address: address of the server, host:port.
          variables: the variables that `refresh` overwrites, in the learner's order.
          timeout: seconds to wait for the first publication.
          whose: "learner" or "relay", for messages.

        Raises:
          UserError: nothing is published in time.
        """
        deadline = time.monotonic() + timeout
        waiting = False
        while (tables := connection.ask(address)) is None or tables[VARIABLES].current_size == 0:
            if time.monotonic() > deadline:
                raise UserError(f"The {whose} at {address} published no parameters within {timeout:g} s.")
            if not waiting:
                _LOGGER.info("waiting for the first parameters of the %s at %s", whose, address)
                waiting = True
            time.sleep(0.1)
        self._container = reverb_variable_container.ReverbVariableContainer(address, [VARIABLES])
        self._learner_step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._variables = {"learner_step": self._learner_step, "variables": list(variables)}
        # Pulls and assigns in one graph. The container's own `update` is traced again at every call if the variables
        # belong to mixed-precision layers.
        self._pull = tf.function(self._pull_and_assign, autograph=False)

    def refresh(self) -> int:
        """Overwrites the variables with the newest published ones and returns the learner step that made them."""
        self._pull()
        return int(self._learner_step)

    def _pull_and_assign(self) -> None:
        values = self._container.pull(VARIABLES)
        for variable, value in zip(tf.nest.flatten(self._variables), tf.nest.flatten(values)):
            variable.assign(value)

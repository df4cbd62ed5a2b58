"""Passes a learner's parameters on, so that a machine's actors do not all pull them from the learner."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from impala_tf.transport import VARIABLES, connection, server
from impala_tf.transport.variables import VariableClient, VariablePublisher


class Relay:
    """Pulls parameters from a learner and serves them from a server of its own. Use it in a `with` statement.

    It needs to know nothing of the network: the learner's table says which arrays the parameters are. The learner step
    travels with them, so the policy lag of actors that pull from here stays right.

    Attributes:
      address: address of its server, localhost:port.
      learner_step: learner step of the parameters passed on last; -1 before.
    """

    def __init__(
        self,
        address: str,
        *,
        port: int = 0,
        timeout: float,
        check: Callable[[dict[str, Any]], None] = lambda told: None,
        on_end: Callable[[str, bool], None] | None = None,
    ):
        """Connects to the learner, starts the server and passes the first parameters on.

        If that fails, nothing is left running.

        Args:
          address: address of the learner's server, or of another relay's, host:port.
          port: port of the relay's own server; 0: a free one.
          timeout: seconds to wait for the learner to answer, and again for it to publish parameters.
          check: called with what the learner tells about the run, which the relay tells its actors, too; raises
            `UserError` if it cannot be relayed.
          on_end: called from a thread, with a message and whether the run has finished: when it has, or when the
            learner has stopped answering for `timeout` seconds.

        Raises:
          UserError: nothing answers in time, the run cannot be relayed, or the port cannot be used.
        """
        with contextlib.ExitStack() as stack:
            tables, told = connection.reach(address, timeout, stack, on_end)
            check(told)
            signature = tables[VARIABLES].signature["variables"]
            variables = [tf.Variable(tf.zeros(part.shape, part.dtype), trainable=False) for part in signature]
            self._learner, self._pushes = connection.Questions(address), 0
            self._client = VariableClient(address, variables, timeout)
            self.learner_step = -1
            serving = stack.enter_context(server.Server(server.parameters_only(), None, variables, port, told))
            self.address = serving.address
            self._publisher = VariablePublisher(self.address, variables)
            stack.callback(self._publisher.stop)
            self.pass_on()
            self._open = stack.pop_all()

    def pass_on(self) -> bool:
        """Passes the newest parameters on, unless the learner has published none since the last call.

        Waits, without a deadline, for a learner that answers no more; `on_end` reports it.

        Returns:
          Whether there were new ones.
        """
        # Asking how often something was published moves no parameters. Asked first: what comes later is seen next time.
        if (tables := self._learner.ask()) is None:
            return False
        pushes = tables[VARIABLES].rate_limiter_info.insert_stats.completed
        if pushes == self._pushes:
            return False
        self._pushes = pushes
        self.learner_step = self._client.refresh()
        self._publisher.publish(self.learner_step)
        return True

    def wait_until_passed_on(self, timeout: float) -> bool:
        """Waits until actors can pull what was passed on last; False after `timeout` seconds."""
        return self._publisher.wait_until_pushed(timeout)

    def stop(self) -> None:
        """Stops serving; calling it again does nothing."""
        self._open.close()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

"""An actor's end of the transport: its connection to the learner's server."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from impala_tf.structures import EnvironmentSpec
from impala_tf.transport import TRAJECTORIES, VARIABLES
from impala_tf.transport.connection import ServerWatch, read_told, wait_for_server
from impala_tf.transport.signatures import check_same, unroll_signature, variables_signature
from impala_tf.transport.variables import VariableClient
from impala_tf.transport.writer import UnrollWriter


class ActorEnd:
    """Everything between an actor and the learner, made and stopped as one. Use it in a `with` statement.

    Attributes:
      told: what the learner tells about the run.
      writer: takes finished unrolls.
      learner_step: of the parameters that were pulled first.
    """

    def __init__(
        self,
        address: str,
        spec: EnvironmentSpec,
        core_state_spec: Any,
        unroll_length: int,
        variables: Sequence[tf.Variable],
        *,
        timeout: float,
        check: Callable[[dict[str, Any]], None] = lambda told: None,
        on_lost: Callable[[str], None] | None = None,
    ):
        """Connects, checks that both sides expect the same, and pulls the first parameters.

        If that fails, nothing is left running.

        Args:
          address: of the learner's server, host:port.
          spec: of the environments.
          core_state_spec: of the agent.
          unroll_length: T, agent steps.
          variables: overwritten by `refresh`, in the learner's order.
          timeout: seconds to wait for the learner to answer and to publish parameters.
          check: looks at what the learner tells about the run; raises `UserError` if this actor does not fit.
          on_lost: called from a thread, with a message, when a server that has answered no longer does.

        Raises:
          UserError: nothing answers in time, or the learner expects something else.
        """
        tables = wait_for_server(address, timeout)
        with contextlib.ExitStack() as stack:
            if on_lost:
                stack.callback(ServerWatch(address, timeout, on_lost).stop)
            self.told = read_told(address)
            check(self.told)
            check_same(
                "unrolls", tables[TRAJECTORIES].signature, unroll_signature(spec, core_state_spec, unroll_length)
            )
            check_same("parameters", tables[VARIABLES].signature, variables_signature(variables))
            self._variables = VariableClient(address, variables, timeout)
            self.learner_step = self._variables.refresh()
            self.writer = UnrollWriter(address, spec.frame_stack)
            self._open = stack.pop_all()

    def refresh(self) -> int:
        """Pulls the newest parameters; returns the learner step that made them."""
        return self._variables.refresh()

    def stop(self) -> None:
        """Stops watching the server; unrolls that it has not taken yet are dropped."""
        self._open.close()

    def __enter__(self) -> ActorEnd:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

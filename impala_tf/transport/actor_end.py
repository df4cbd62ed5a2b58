"""An actor's end of the transport: its connection to the learner."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import tensorflow as tf

from impala_tf.errors import UserError
from impala_tf.structures import EnvironmentSpec
from impala_tf.transport import FIELDS, REPLAY, TRAJECTORIES, VARIABLES, rows
from impala_tf.transport.connection import ask, reach
from impala_tf.transport.signatures import check_same, unroll_signature, variables_signature
from impala_tf.transport.variables import VariableClient
from impala_tf.transport.writer import UnrollWriter

_Link = TypeVar("_Link", bound="LearnerLink")


class Exchange(NamedTuple):
    """What a process and its learner exchange.

    Attributes:
      what: what the process sends, in the plural, for messages.
      table: table that it goes to.
      signature: signature of one item; of unrolls, that of the fields in an item's row.
      variables: the variables that `LearnerLink.refresh` overwrites, in the learner's order.
    """

    what: str
    table: str
    signature: Any
    variables: Sequence[tf.Variable]


class LearnerLink:
    """The connection to a learner of a process that sends it something. Use it in a `with` statement.

    Attributes:
      told: what the learner tells about the run.
      learner_step: learner step of the first parameters that were pulled.
    """

    def __init__(
        self,
        address: str,
        exchange: Callable[[dict[str, Any]], Exchange],
        *,
        timeout: float,
        relay: str = "",
        check: Callable[[dict[str, Any]], None] = lambda told: None,
        on_end: Callable[[str, bool], None] | None = None,
    ):
        """Connects, checks that both sides expect the same, and pulls the first parameters.

        If that fails, nothing is left running.

        Args:
          address: address of the learner's server, host:port.
          exchange: called with what the learner tells about the run, after `check`; returns what will be exchanged.
          timeout: seconds to wait for a server to answer, and again for parameters.
          relay: host:port of the `Relay` from which parameters are pulled; "": they come from the learner itself.
          check: called with what the learner tells about the run, and with what the relay does; raises `UserError` if
            this actor does not fit.
          on_end: called from a thread, with a message and whether the run has finished: when it has, or when a server
            has stopped answering for `timeout` seconds.

        Raises:
          UserError: nothing answers in time, or the learner expects something else, or the relay is another run's.
        """
        with contextlib.ExitStack() as stack:
            tables, self.told = reach(address, timeout, stack, on_end)
            check(self.told)
            pulled_from, parameters = address, tables
            if relay:
                pulled_from, (parameters, relays) = relay, reach(relay, timeout, stack, on_end, "relay")
                try:
                    check(relays)  # Not whether both tell the same: of several learners, any may be relayed.
                except UserError:
                    raise UserError(
                        f"The relay at {relay} has the parameters of another run than that of the learner at "
                        f"{address}: start it anew with --address={address}."
                    ) from None
            what, table, signature, variables = exchange(self.told)
            if table not in tables:
                raise UserError(
                    f"The server at {address} takes no {what}: it is a relay, or has another --architecture."
                )
            if table != TRAJECTORIES:
                check_same(what, tables[table].signature, signature)
            elif FIELDS in tables:
                check_same(what, tables[FIELDS].signature, signature)
            else:  # A learner of an earlier version; no two of its fields look like a row.
                check_same(what, tables[table].signature, rows.signature(signature))
            check_same("parameters", parameters[VARIABLES].signature, variables_signature(variables))
            self._address, self._tables = address, tables
            self._variables = VariableClient(pulled_from, variables, timeout, "relay" if relay else "learner")
            self.learner_step = self._variables.refresh()
            self._open = stack.pop_all()

    def refresh(self) -> int:
        """Pulls the newest parameters and returns the learner step that made them."""
        return self._variables.refresh()

    def stop(self) -> None:
        """Closes the writer, which drops what the server has not taken yet, and stops watching the server.

        Calling it again does nothing.
        """
        self._open.close()

    def __enter__(self: _Link) -> _Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class ActorEnd(LearnerLink):
    """Everything between an actor and the learner, made and stopped as one. Use it in a `with` statement.

    Attributes:
      writer: takes finished unrolls.
    """

    def __init__(
        self,
        address: str,
        spec: EnvironmentSpec,
        core_state_spec: Any,
        unroll_length: int,
        variables: Sequence[tf.Variable],
        **options: Any,
    ):
        """Connects, as `LearnerLink` does, and opens the writer. If that fails, nothing is left running.

        Args:
          address: address of the learner's server, host:port.
          spec: spec of the environments.
          core_state_spec: nest of `ArraySpec`s of the agent's core state.
          unroll_length: T, in agent steps.
          variables: the variables that `refresh` overwrites, in the learner's order.
          **options: `timeout`, `relay`, `check` and `on_end`, as for `LearnerLink`.

        Raises:
          UserError: as for `LearnerLink`.
        """
        unroll = unroll_signature(spec, core_state_spec, unroll_length)
        super().__init__(address, lambda told: Exchange("unrolls", TRAJECTORIES, unroll, variables), **options)
        self.writer = UnrollWriter(address, unroll, replay=REPLAY in self._tables)
        self._open.callback(self.writer.close)

    def unrolls_arrived(self) -> int | None:
        """Returns how many unrolls of all actors the server has taken so far; None if it does not answer within 5 s."""
        tables = ask(self._address)
        return tables[TRAJECTORIES].rate_limiter_info.insert_stats.completed if tables else None

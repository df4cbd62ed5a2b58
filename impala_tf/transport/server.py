"""The Reverb server of a learner or a relay, with its tables from a ReverbServerConfig textproto."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import reverb
import tensorflow as tf
from google.protobuf import text_format
from reverb.platform import checkpointers_lib
from reverb.server_executable import reverb_config_pb2, server_from_proto

from impala_tf.config import DataConfig
from impala_tf.errors import UserError
from impala_tf.structures import Trajectory
from impala_tf.transport import FIELDS, FINISHED, GRADIENTS, REPLAY, RUN, TRAJECTORIES, VARIABLES, ports, rows, tables
from impala_tf.transport.signatures import variables_signature


def load_config(data: DataConfig) -> reverb_config_pb2.ReverbServerConfig:
    """Reads the tables that `--reverb_config` names and sets the sizes of queue and replay.

    Without replay, a table for it is left out: nobody would sample it, but actors would fill it. Unless settings say
    otherwise, the queue holds at least two batches' fresh unrolls.

    Raises:
      UserError: the file cannot be read, is not a ReverbServerConfig, or lacks a table; or the queue is not larger than
        the fresh part of a batch.
    """
    config, queue = read_config(data.tables, data.queue_size, TRAJECTORIES)
    replay = next((table for table in config.tables if table.table_name == REPLAY), None)
    if data.replay_fraction:
        if replay is None:
            raise UserError(
                f"--reverb_config={data.tables}: has no table {REPLAY!r}, which --replay_fraction needs: "
                "copy it from reverb_configs/replay.textproto, or leave out --reverb_config."
            )
        replay.max_size = data.replay_size
    elif replay is not None:
        config.tables.remove(replay)
    fresh = data.fresh_batch_size
    if data.reverb_config == "auto" and not data.queue_size:
        _set_size(queue, max(queue.max_size, 2 * fresh))
    if queue.max_size <= fresh:
        taken = f"the {fresh} fresh ones of a batch" if data.replay_fraction else f"--batch_size={fresh}"
        raise UserError(
            f"The queue holds {queue.max_size} unrolls, which must be more than {taken}: set --queue_size (twice that, "
            f"{2 * fresh}, is usual)."
        )
    return config


def parameters_only() -> reverb_config_pb2.ReverbServerConfig:
    """Returns the table of parameters alone, for a server that takes no unrolls."""
    config, _ = read_config("on_policy", 0, TRAJECTORIES)
    for table in [table for table in config.tables if table.table_name != VARIABLES]:
        config.tables.remove(table)
    return config


def read_config(
    name: str, queue_size: int, queue: str
) -> tuple[reverb_config_pb2.ReverbServerConfig, reverb_config_pb2.Table]:
    """Reads tables and sets the queue's size.

    Args:
      name: as for `tables.read`.
      queue_size: items that the queue holds; 0: as the file says.
      queue: name of the table that is the queue.

    Returns:
      The tables, and the queue among them.

    Raises:
      UserError: the file cannot be read, is not a ReverbServerConfig, or lacks the queue or the variables.
    """
    try:
        config = text_format.Parse(tables.read(name), reverb_config_pb2.ReverbServerConfig())
    except text_format.ParseError as error:
        raise UserError(f"--reverb_config={name}: not a ReverbServerConfig textproto: {error}.") from None
    by_name = {table.table_name: table for table in config.tables}
    for needed in (queue, VARIABLES):
        if needed not in by_name:
            raise UserError(f"--reverb_config={name}: has no table {needed!r} (its tables: {list(by_name)}).")
    for taken in (RUN, FINISHED, FIELDS):
        if taken in by_name:
            raise UserError(
                f"--reverb_config={name}: the table name {taken!r} is taken by impala_tf; rename the table."
            )
    if queue_size:
        _set_size(by_name[queue], queue_size)
    return config, by_name[queue]


def _set_size(queue: reverb_config_pb2.Table, size: int) -> None:
    queue.max_size = size
    queue.rate_limiter.max_diff = size


class Server:
    """A running Reverb server. `stop` it, or use it in a `with` statement.

    Attributes:
      address: localhost:port.
    """

    def __init__(
        self,
        config: reverb_config_pb2.ReverbServerConfig,
        unroll: Trajectory | None,
        variables: Sequence[tf.Variable],
        port: int = 0,
        told: dict[str, Any] | None = None,
    ):
        """Starts the server.

        Args:
          config: the tables, from `load_config`.
          unroll: signature of one unroll, from `unroll_signature`, of which the tables hold rows; or of one of A3C's
            contributions; None if the learner samples nothing.
          variables: the parameters that will be published.
          port: port to listen on, on every interface and without encryption, since Reverb offers nothing else; 0: a
            free port.
          told: facts about the run that actors can read; must be serializable as JSON.

        Raises:
          UserError: the port cannot be used.
        """
        ports.check_free(port)
        port = port or ports.free_port()
        text = json.dumps(told or {})
        with contextlib.ExitStack() as stack:
            # Reverb creates a folder for checkpoints of its tables, which is never used. It is removed at once: later,
            # this process may be killed.
            with tempfile.TemporaryDirectory(prefix="impala_tf_reverb_") as folder:
                checkpointer = checkpointers_lib.DefaultCheckpointer(path=folder)
                server = reverb.Server(_tables(config, unroll, variables), port=port, checkpointer=checkpointer)
            stack.callback(server.stop)
            self._client = server.localhost_client()
            self._client.insert(np.frombuffer(text.encode(), np.uint8), {RUN: 1.0})
            self._open = stack.pop_all()
        self.address = f"localhost:{port}"

    def tell_finished(self) -> None:
        """Tells actors that the run has finished."""
        self._client.insert(np.zeros(0, np.uint8), {FINISHED: 1.0})

    def stop(self) -> None:
        """Stops serving and cuts off waiting clients; calling it again does nothing."""
        self._open.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _tables(config, unroll, variables) -> list[reverb.Table]:
    """Builds the tables as `server_from_proto.tables_from_proto` does, but with signatures, which a textproto lacks."""
    signatures = {VARIABLES: variables_signature(variables), GRADIENTS: unroll}
    names = [table.table_name for table in config.tables]
    signatures.update((name, rows.signature(unroll)) for name in names if name not in signatures)
    found = [
        reverb.Table(
            name=table.table_name,
            sampler=server_from_proto.selector_from_proto(table.sampler),
            remover=server_from_proto.selector_from_proto(table.remover),
            max_size=table.max_size,
            max_times_sampled=table.max_times_sampled,
            rate_limiter=server_from_proto.rate_limiter_from_proto(table.rate_limiter),
            signature=signatures[table.table_name],
        )
        for table in config.tables
    ]
    about_run = [
        reverb.Table(
            name=name,
            sampler=reverb.selectors.Fifo(),
            remover=reverb.selectors.Fifo(),
            max_size=1,
            rate_limiter=reverb.rate_limiters.MinSize(1),
            signature=signature,
        )
        for name, signature in {
            RUN: None,
            FINISHED: None,
            **({FIELDS: unroll} if TRAJECTORIES in names else {}),
        }.items()
    ]
    return [*found, *about_run]

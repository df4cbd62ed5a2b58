"""The Reverb server that the learner's process hosts, with its tables from a ReverbServerConfig textproto."""

from __future__ import annotations

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
from impala_tf.transport import RUN, TRAJECTORIES, VARIABLES, ports, tables
from impala_tf.transport.signatures import variables_signature


def load_config(data: DataConfig) -> reverb_config_pb2.ReverbServerConfig:
    """Reads the tables that `--reverb_config` names and sets the queue's size.

    Raises:
      UserError: there is no such file, it is not a ReverbServerConfig, it lacks one of the two tables, or the queue is
        not larger than a batch.
    """
    name = data.reverb_config
    try:
        config = text_format.Parse(tables.read(name), reverb_config_pb2.ReverbServerConfig())
    except text_format.ParseError as error:
        raise UserError(f"--reverb_config={name}: not a ReverbServerConfig textproto: {error}.") from None
    by_name = {table.table_name: table for table in config.tables}
    for needed in (TRAJECTORIES, VARIABLES):
        if needed not in by_name:
            raise UserError(f"--reverb_config={name}: has no table {needed!r} (its tables: {list(by_name)}).")
    queue = by_name[TRAJECTORIES]
    if data.queue_size:
        queue.max_size = data.queue_size
        queue.rate_limiter.max_diff = data.queue_size
    if queue.max_size <= data.batch_size:
        raise UserError(
            f"The queue holds {queue.max_size} unrolls, which must be more than --batch_size={data.batch_size}: set "
            f"--queue_size (twice the batch, {2 * data.batch_size}, is usual)."
        )
    return config


class Server:
    """A running Reverb server. `stop` it, or use it in a `with` statement.

    Attributes:
      address: localhost:port.
    """

    def __init__(
        self,
        config: reverb_config_pb2.ReverbServerConfig,
        unroll: Trajectory,
        variables: Sequence[tf.Variable],
        port: int = 0,
        told: dict[str, Any] | None = None,
    ):
        """Starts the server.

        Args:
          config: its tables.
          unroll: signature of one unroll on the wire, as `unroll_signature` gives it.
          variables: the parameters that will be published.
          port: to listen on, on every interface, without encryption: all that Reverb offers. 0: a free one.
          told: what actors may ask about the run, JSON-able.

        Raises:
          UserError: the port is in use.
        """
        ports.check_free(port)
        port = port or ports.free_port()
        # Reverb makes a folder for checkpoints of its tables whether it is used or not; this one is removed again.
        self._folder = tempfile.TemporaryDirectory(prefix="impala_tf_reverb_")
        try:
            checkpointer = checkpointers_lib.DefaultCheckpointer(path=self._folder.name)
            self._server = reverb.Server(_tables(config, unroll, variables), port=port, checkpointer=checkpointer)
            text = np.frombuffer(json.dumps(told or {}).encode(), np.uint8)
            self._server.localhost_client().insert(text, {RUN: 1.0})
        except BaseException:
            self._folder.cleanup()
            raise
        self.address = f"localhost:{port}"

    def stop(self) -> None:
        """Stops serving; clients that wait are cut off."""
        self._server.stop()
        self._folder.cleanup()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _tables(config, unroll, variables) -> list[reverb.Table]:
    """The tables as `server_from_proto.tables_from_proto` builds them, with signatures, which a textproto lacks."""
    published = variables_signature(variables)
    found = [
        reverb.Table(
            name=table.table_name,
            sampler=server_from_proto.selector_from_proto(table.sampler),
            remover=server_from_proto.selector_from_proto(table.remover),
            max_size=table.max_size,
            max_times_sampled=table.max_times_sampled,
            rate_limiter=server_from_proto.rate_limiter_from_proto(table.rate_limiter),
            signature=published if table.table_name == VARIABLES else unroll,
        )
        for table in config.tables
    ]
    about_run = reverb.Table(
        name=RUN,
        sampler=reverb.selectors.Fifo(),
        remover=reverb.selectors.Fifo(),
        max_size=1,
        rate_limiter=reverb.rate_limiters.MinSize(1),
    )
    return [*found, about_run]

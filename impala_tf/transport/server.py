"""The Reverb server that the learner's process hosts, with its tables from a ReverbServerConfig textproto."""

from __future__ import annotations

import tempfile
from typing import Any

import reverb
from google.protobuf import text_format
from reverb.platform import checkpointers_lib
from reverb.server_executable import reverb_config_pb2, server_from_proto

from impala_tf.errors import UserError
from impala_tf.transport import TRAJECTORIES, VARIABLES, ports, tables as textproto


def load_config(name_or_path: str) -> reverb_config_pb2.ReverbServerConfig:
    """Reads a ReverbServerConfig: the name of a file in reverb_configs/ without its ending, or a path.

    Raises:
      UserError: if there is no such file, it is no ReverbServerConfig, or it lacks one of the two tables.
    """
    try:
        config = text_format.Parse(textproto.read(name_or_path), reverb_config_pb2.ReverbServerConfig())
    except text_format.ParseError as error:
        raise UserError(f"--reverb_config={name_or_path}: not a ReverbServerConfig textproto: {error}.") from None
    names = [table.table_name for table in config.tables]
    for needed in (TRAJECTORIES, VARIABLES):
        if needed not in names:
            raise UserError(f"--reverb_config={name_or_path}: has no table {needed!r} (its tables: {names}).")
    return config


def set_queue_size(config: reverb_config_pb2.ReverbServerConfig, queue_size: int, batch_size: int) -> None:
    """Sets how many unrolls may wait in the queue (0: as the config says) and checks that a batch fits.

    Raises:
      UserError: if the queue is not larger than a batch.
    """
    table = next(table for table in config.tables if table.table_name == TRAJECTORIES)
    if queue_size:
        table.max_size = queue_size
        table.rate_limiter.max_diff = queue_size
    if table.max_size <= batch_size:
        raise UserError(
            f"The queue holds {table.max_size} unrolls, which must be more than --batch_size={batch_size}: set "
            f"--queue_size (twice the batch, {2 * batch_size}, is usual)."
        )


class Server:
    """A running Reverb server. `stop` it, or use it in a `with` statement."""

    def __init__(self, config: reverb_config_pb2.ReverbServerConfig, signatures: dict[str, Any], port: int):
        """Starts the server.

        Args:
          config: its tables.
          signatures: {table: nest of tf.TensorSpec}; a textproto cannot carry them.
          port: to listen on, on every interface, without encryption: all that Reverb offers. 0: a free one.

        Raises:
          UserError: if the port is in use.
        """
        ports.check_free(port)
        port = port or ports.free_port()
        # As server_from_proto.tables_from_proto builds them, and with signatures, which it cannot give them.
        tables = [
            reverb.Table(
                name=table.table_name,
                sampler=server_from_proto.selector_from_proto(table.sampler),
                remover=server_from_proto.selector_from_proto(table.remover),
                max_size=table.max_size,
                max_times_sampled=table.max_times_sampled,
                rate_limiter=server_from_proto.rate_limiter_from_proto(table.rate_limiter),
                signature=signatures.get(table.table_name),
            )
            for table in config.tables
        ]
        # Reverb makes a folder for checkpoints of its tables whether it is used or not; this one is removed again.
        self._folder = tempfile.TemporaryDirectory(prefix="impala_tf_reverb_")
        checkpointer = checkpointers_lib.DefaultCheckpointer(path=self._folder.name)
        self._server = reverb.Server(tables, port=port, checkpointer=checkpointer)
        self.address = f"localhost:{port}"

    def stop(self) -> None:
        """Stops serving; clients that wait are cut off."""
        self._server.stop()
        self._folder.cleanup()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

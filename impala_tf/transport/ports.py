"""Ports for the learner's server."""

from __future__ import annotations

import socket

from impala_tf.errors import UserError


def check_free(port: int) -> None:
    """Checks that a server can listen on a port; gRPC itself would silently share one that is in use.

    Args:
      port: 0 is always free.

    Raises:
      UserError: something listens on the port, or this user may not use it.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise UserError(
                f"--port={port} cannot be used ({error.strerror}): choose another, or 0 for a free one."
            ) from None


def check_address(address: str, flag: str = "address") -> None:
    """Checks the form of a learner's address.

    Args:
      address: host:port.
      flag: the flag that gave it, for the message.

    Raises:
      UserError: it is not host:port.
    """
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 65536):
        raise UserError(f"--{flag}={address!r}: must be the learner's host:port, for example localhost:8000.")


def free_port() -> int:
    """Returns a port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]

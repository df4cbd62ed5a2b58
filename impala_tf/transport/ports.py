"""Ports for the learners' servers."""

from __future__ import annotations

import contextlib
import random
import socket

from impala_tf.config import LaunchConfig
from impala_tf.errors import UserError
from impala_tf.topology import LearnerAddress

_PORTS = (20_000, 32_768)  # Linux gives 32768 to 60999 to connections.
_TRIES = 100
_returned: set[int] = set()


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


def check_address(address: str, flag: str = "address", whose: str = "learner") -> None:
    """Checks the form of an address.

    Args:
      address: what should be host:port.
      flag: the setting that gives it.
      whose: the kind of process that it is the address of.

    Raises:
      UserError: it is not host:port.
    """
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 65536):
        raise UserError(f"--{flag}={address!r}: must be the {whose}'s host:port, for example localhost:8000.")


def free_port() -> int:
    """Returns a port that nothing listens on at this moment.

    It is below those that systems give to outgoing connections, one of which could take it before the server does. A
    process gets each port only once: gRPC keeps connections to earlier servers, and first calls through them fail.
    """
    generator = random.SystemRandom()  # Processes that are forked must not draw the same.
    for _ in range(_TRIES):
        port = generator.randrange(*_PORTS)
        if port in _returned:
            continue
        with contextlib.suppress(UserError):
            check_free(port)
            _returned.add(port)
            return port
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def on_this_machine(launch: LaunchConfig) -> list[LearnerAddress]:
    """Returns addresses for a run's learners, which actors have to know before the learners' servers are up.

    Several learners have the ports from `launch.port` on, or free ones.

    Raises:
      UserError: a port cannot be used.
    """
    numbers = range(launch.num_learners)
    if launch.port + numbers[-1] > 65_535:
        raise UserError(
            f"--port={launch.port} with --num_learners={len(numbers)}: the learners have the ports from there on, and "
            f"there is none above 65535; use at most {65_536 - len(numbers)}."
        )
    servers = [launch.port + number if launch.port else free_port() for number in numbers]
    for port in servers:
        check_free(port)
    exchanges = [f"localhost:{free_port()}" if launch.num_learners > 1 else "" for _ in numbers]
    return [LearnerAddress(f"localhost:{port}", exchange) for port, exchange in zip(servers, exchanges)]

"""Brings several learners together before they connect for good, which has no deadline of its own and cannot be ended.

Learner 0 listens at its address until all others have said hello there, and then tells all of them to go ahead.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from impala_tf.errors import UserError

_LOGGER = logging.getLogger(__name__)
_LOOK_SECONDS = 0.2
_SAY_SECONDS = 10.0  # Between two lines that say who is missing.
_HELLO_SECONDS = 2.0  # In which a hello must have come, once its sender has connected.
_LONGEST_LINE = 2**16  # Bytes.


def meet(
    addresses: Sequence[str],
    rank: int,
    settings: dict[str, Any],
    timeout: float,
    beat: Callable[[], None] = lambda: None,
    stop: threading.Event | None = None,
) -> None:
    """Waits until all learners are there.

    Args:
      addresses: host:port of each learner, in order.
      rank: number of this learner.
      settings: must be the same for all learners; serializable as JSON.
      timeout: seconds to wait for the others.
      beat: called several times a second during the wait.
      stop: ends the wait.

    Raises:
      UserError: not all learners are there in time, their settings differ, the port cannot be used, or `stop` was set.
    """
    wait = _Wait(timeout, beat, stop or threading.Event())
    # What all have in common has passed through JSON for all of them.
    hello = json.loads(json.dumps({"rank": rank, **settings, "num_learners": len(addresses)}))
    if rank == 0:
        _gather(addresses, hello, wait)
    else:
        _report(addresses, rank, hello, wait)


class _Wait:
    """A wait with a deadline."""

    def __init__(self, timeout: float, beat: Callable[[], None], stop: threading.Event):
        self.timeout, self._beat, self._stop = timeout, beat, stop
        self._start = self._said = time.monotonic()

    def goes_on(self, whom: str) -> bool:
        """Returns False after the deadline; says from time to time that `whom` is waited for.

        Raises:
          UserError: `stop` was set.
        """
        self._beat()
        if self._stop.is_set():
            raise UserError("The learner was asked to end while it waited for the other learners.")
        now = time.monotonic()
        if now - self._said > _SAY_SECONDS:
            self._said = now
            _LOGGER.info("waiting for %s", whom)
        return now - self._start < self.timeout


def _gather(addresses: Sequence[str], hello: dict[str, Any], wait: _Wait) -> None:
    """Waits as learner 0 until all others have said hello, and sends them on."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port = int(addresses[0].rpartition(":")[2])
        try:
            listener.bind(("", port))
        except OSError as error:
            raise UserError(f"Learner 0 cannot listen at {addresses[0]} ({error.strerror}).") from None
        listener.listen(len(addresses))
        listener.settimeout(_LOOK_SECONDS)
        others: dict[int, socket.socket] = {}
        while missing := [rank for rank in range(1, len(addresses)) if rank not in others]:
            names = ", ".join(f"learner {rank} ({addresses[rank]})" for rank in missing)
            if not wait.goes_on(names):
                raise UserError(
                    f"Not all of the {len(addresses)} learners were there within {wait.timeout:g} s. Missing: {names}. "
                    f"Are they running, with the same --learners, and can they reach {addresses[0]}?"
                )
            with contextlib.suppress(TimeoutError):
                connection = stack.enter_context(listener.accept()[0])
                if (rank := _admitted(connection, hello)) is not None:
                    if (earlier := others.get(rank)) is not None:
                        with contextlib.suppress(OSError):  # It is usually gone, and this is its successor.
                            _send(earlier, {"error": f"another learner {rank} has come; each has its own --learner_id"})
                    others[rank] = connection
            for rank, connection in list(others.items()):
                if _hung_up(connection):
                    del others[rank]
        for connection in others.values():
            with contextlib.suppress(OSError):  # Its end will be noticed later.
                _send(connection, {})


def _admitted(connection: socket.socket, hello: dict[str, Any]) -> int | None:
    """Reads a hello; returns the number of its learner, or None, with the connection closed, if it is none.

    Raises:
      _Differs: its settings are others than those of learner 0.
    """
    connection.settimeout(_HELLO_SECONDS)
    try:
        said = json.loads(_read_line(connection))
        if not (isinstance(said, dict) and said.get("rank") in range(1, hello["num_learners"])):
            raise ValueError("no learner")
        if difference := _difference(hello, said):
            _send(connection, {"error": difference})
            raise _Differs(f"Learner {said['rank']} does not fit learner 0: {difference}.")
        return said["rank"]
    except (OSError, ValueError):  # It hangs, has left, or does not speak like this: a learner tries again.
        connection.close()
        return None


def _report(addresses: Sequence[str], rank: int, hello: dict[str, Any], wait: _Wait) -> None:
    """Says hello to learner 0 and waits until it answers that all are there."""
    host, _, port = addresses[0].rpartition(":")
    whom = f"learner 0 ({addresses[0]})"
    while True:
        with contextlib.suppress(OSError, ValueError), socket.create_connection((host, int(port)), 5) as connection:
            _send(connection, hello)
            connection.settimeout(_LOOK_SECONDS)
            whom = f"the others, as does learner 0 ({addresses[0]})"
            while wait.goes_on(whom):
                with contextlib.suppress(TimeoutError):
                    answer: dict[str, str] = json.loads(_read_line(connection))
                    if "error" in answer:
                        raise _Differs(f"Learner {rank} does not fit learner 0 ({addresses[0]}): {answer['error']}.")
                    return
        if not wait.goes_on(whom):
            raise UserError(
                f"Not all of the {len(addresses)} learners were there within {wait.timeout:g} s: this one waited for "
                f"{whom}. Are all running, with the same --learners?"
            )
        time.sleep(_LOOK_SECONDS)


class _Differs(UserError):
    """Two learners have different settings."""


def _difference(expected: dict[str, Any], said: dict[str, Any]) -> str:
    """Names the settings that differ; "" if there are none."""
    names = [name for name in expected if name != "rank" and said.get(name) != expected[name]]
    return "; ".join(f"--{name}: {expected[name]} at learner 0, {said.get(name)} there" for name in names)


def _send(connection: socket.socket, record: dict[str, Any]) -> None:
    connection.sendall(json.dumps(record).encode() + b"\n")


def _read_line(connection: socket.socket) -> bytes:
    """Reads a line.

    Raises:
      OSError: it does not come in time, or the connection ends first.
    """
    line = b""
    while not line.endswith(b"\n"):
        if not (part := connection.recv(_LONGEST_LINE)) or len(line) > _LONGEST_LINE:
            raise ConnectionError("no line")
        line += part
    return line


def _hung_up(connection: socket.socket) -> bool:
    try:
        connection.setblocking(False)
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(_LOOK_SECONDS)

"""Puts a deadline on every wait for the learner's server.

Reverb's clients retry forever and say nothing. An actor therefore asks the server for its tables before it does
anything else, and keeps asking from a thread while it runs. When there has been no answer for long enough, the thread
reports it, whatever native call the main thread waits in.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import reverb
from reverb import reverb_types

from impala_tf.errors import LearnerLost, UserError
from impala_tf.transport import FINISHED, RUN

_LOGGER = logging.getLogger(__name__)
_PING_SECONDS = 5
_LOOK_SECONDS = 2.0
TELL_SECONDS = 3.0
"""Time in which a watched server's news reaches the actors."""
_REMIND_SECONDS = 10.0
_FAILURES = (reverb.errors.ReverbError, RuntimeError, ValueError)
"""What Reverb's clients raise when a server does not answer."""


def ask(address: str) -> dict[str, reverb_types.TableInfo] | None:
    """Asks a server for its tables; returns None if it does not answer within 5 s."""
    return Questions(address).ask()


class Questions:
    """Asks a server for its tables, again and again."""

    def __init__(self, address: str):
        """Does not ask yet."""
        self._address = address
        self._client: reverb.Client | None = None

    def ask(self) -> dict[str, reverb_types.TableInfo] | None:
        """Returns the tables, or None if the server does not answer within 5 s.

        After that it uses a new client, since the old one would wait for its back-off.
        """
        try:
            self._client = self._client or reverb.Client(self._address)
            return self._client.server_info(timeout=_PING_SECONDS)
        except _FAILURES:
            self._client = None
            return None


def wait_for_server(address: str, timeout: float, whose: str = "learner") -> dict[str, reverb_types.TableInfo]:
    """Waits until a server answers and returns its tables.

    Args:
      address: address of the server, host:port.
      timeout: seconds.
      whose: "learner" or "relay", for messages.

    Raises:
      LearnerLost: nothing answers in time.
      UserError: what answers is not a learner's or a relay's server.
    """
    start = last_said = time.monotonic()
    while (tables := ask(address)) is None or not _is_told(address, tables, whose):
        now = time.monotonic()
        if now - start > timeout:
            raise LearnerLost(
                f"No {whose} answered at {address} within {timeout:g} s. Is it running, is the address its --port, and "
                "can this machine reach it?"
            )
        if now - last_said > _REMIND_SECONDS:
            _LOGGER.info("waiting for the %s at %s", whose, address)
            last_said = now
        time.sleep(0.2)
    return tables


def _is_told(address: str, tables: dict[str, reverb_types.TableInfo], whose: str) -> bool:
    """Whether the facts about the run are already there; they are written right after the server starts."""
    for needed in (RUN, FINISHED):
        if needed not in tables:
            raise UserError(
                f"The server at {address} is not a {whose} of this version of impala_tf: it has no table {needed!r}. "
                f"Check the address and the {whose}'s version."
            )
    return tables[RUN].current_size > 0


def read_told(address: str, timeout: float) -> dict[str, Any]:
    """Returns what a server tells actors about the run. Call it after `wait_for_server`.

    Args:
      address: address of the server, host:port.
      timeout: seconds. Reverb's samplers have no deadline: if this one's is over, a thread of it stays.

    Raises:
      LearnerLost: it has gone, or does not answer in time.
    """
    told: list[dict[str, Any]] = []

    def read() -> None:
        with contextlib.suppress(*_FAILURES):
            sample = next(iter(reverb.Client(address).sample(RUN, num_samples=1, emit_timesteps=False)))
            told.append(json.loads(sample.data[0].tobytes()))

    thread = threading.Thread(target=read, name="read-told", daemon=True)
    thread.start()
    thread.join(timeout)
    if not told:
        raise LearnerLost(f"The server at {address} has answered, but does not tell what its run is. Has it ended?")
    return told[0]


def reach(
    address: str,
    timeout: float,
    stack: contextlib.ExitStack,
    on_end: Callable[[str, bool], None] | None,
    whose: str = "learner",
) -> tuple[dict[str, reverb_types.TableInfo], dict[str, Any]]:
    """Waits for a server; returns its tables and what it tells about the run.

    From then on, until the stack is closed, a `ServerWatch` calls `on_end`, if there is one. The other arguments and
    the errors raised are those of `wait_for_server` and `read_told`.
    """
    tables = wait_for_server(address, timeout, whose)
    if on_end is None:
        return tables, read_told(address, timeout)
    watch = ServerWatch(address, timeout, on_end, whose)  # Already: a server that goes away now would never tell.
    stack.callback(watch.stop)
    told = read_told(address, timeout)
    watch.expect(told)
    return tables, told


class ServerWatch:
    """Calls `on_end(message, finished)` from a thread, when the run has ended as far as its server tells.

    It has finished if the server says so, and has not if the server has not answered for `timeout` seconds, or if,
    after a pause, it tells something else than what was `expect`ed: then it is another run's.
    """

    def __init__(self, address: str, timeout: float, on_end: Callable[[str, bool], None], whose: str = "learner"):
        """Starts the thread; `whose` server it is, is for messages."""
        self._address, self._timeout, self._on_end, self._whose = address, timeout, on_end, whose
        self._told: dict[str, Any] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="server-watch", daemon=True)
        self._thread.start()

    def expect(self, told: dict[str, Any]) -> None:
        """Says what `read_told` has returned, and must return after a pause, too."""
        self._told = told

    def _watch(self) -> None:
        heard, paused = time.monotonic(), False
        while not self._stop.wait(min(_LOOK_SECONDS, self._timeout / 4)):
            if (tables := ask(self._address)) is not None:
                heard = time.monotonic()
                if tables[FINISHED].current_size and not self._stop.is_set():
                    self._on_end(f"The {self._whose} at {self._address} has finished its run.", True)
                    return
                if paused and tables[RUN].current_size:
                    try:
                        told = read_told(self._address, _PING_SECONDS)
                    except LearnerLost:
                        continue  # It has gone again.
                    paused = False
                    if self._told is not None and told != self._told and not self._stop.is_set():
                        self._on_end(
                            f"The {self._whose} at {self._address} is another run's now, or has other settings than "
                            "before.",
                            False,
                        )
                        return
                continue
            paused = True
            if time.monotonic() - heard > self._timeout and not self._stop.is_set():
                self._on_end(
                    f"The {self._whose} at {self._address} has not answered for {self._timeout:g} s: it has ended or "
                    "cannot be reached.",
                    False,
                )
                return

    def stop(self) -> None:
        """Ends the thread; waits for a question in progress, at most 6 s."""
        self._stop.set()
        if threading.current_thread() is not self._thread:  # `on_end` may stop the watch.
            self._thread.join(_PING_SECONDS + 1)

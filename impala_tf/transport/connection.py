"""Deadlines for every wait on the learner's server.

Reverb's clients retry for ever and say nothing. An actor therefore asks the server for its tables before it does
anything else, and keeps asking from a thread while it runs. When there is no answer for long enough, the process ends
with a message, whatever native call its main thread waits in.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import reverb
from reverb import reverb_types

from impala_tf.errors import UserError
from impala_tf.transport import RUN

_LOGGER = logging.getLogger(__name__)
_PING_SECONDS = 5
_REMIND_SECONDS = 10.0


def _ask(address: str) -> dict[str, reverb_types.TableInfo] | None:
    """The server's tables, or None if it does not answer. A new client each time: an old one's back-off would wait."""
    try:
        return reverb.Client(address).server_info(timeout=_PING_SECONDS)
    except (reverb.errors.ReverbError, RuntimeError, ValueError):
        return None


def wait_for_server(address: str, timeout: float) -> dict[str, reverb_types.TableInfo]:
    """Waits until a learner's server answers at `address` ("host:port") and returns its tables.

    Args:
      address: of the server.
      timeout: in seconds.

    Raises:
      UserError: nothing answers in time, or what answers is not a learner's server.
    """
    start = last_said = time.monotonic()
    while (tables := _ask(address)) is None or not _is_told(address, tables):
        now = time.monotonic()
        if now - start > timeout:
            raise UserError(
                f"No learner answered at {address} within {timeout:g} s. Is it running, is the address its --port, and "
                "can this machine reach it?"
            )
        if now - last_said > _REMIND_SECONDS:
            _LOGGER.info("waiting for the learner at %s", address)
            last_said = now
        time.sleep(0.2)
    return tables


def _is_told(address: str, tables: dict[str, reverb_types.TableInfo]) -> bool:
    """Whether the server says what its run is; it does so a moment after its start."""
    if RUN not in tables:
        raise UserError(f"The server at {address} is not a learner's, or of another version of impala_tf.")
    return tables[RUN].current_size > 0


def read_told(address: str) -> dict[str, Any]:
    """What the learner tells actors about the run; after `wait_for_server`."""
    sample = next(iter(reverb.Client(address).sample(RUN, num_samples=1, emit_timesteps=False)))
    return json.loads(sample.data[0].tobytes())


class ServerWatch:
    """Calls `on_lost(message)` from a thread when the server has not answered for `timeout` seconds."""

    def __init__(self, address: str, timeout: float, on_lost: Callable[[str], None]):
        self._address, self._timeout, self._on_lost = address, timeout, on_lost
        self._stop = threading.Event()
        threading.Thread(target=self._watch, name="server-watch", daemon=True).start()

    def _watch(self) -> None:
        heard = time.monotonic()
        while not self._stop.wait(min(_PING_SECONDS, self._timeout / 4)):
            if _ask(self._address) is not None:
                heard = time.monotonic()
            elif time.monotonic() - heard > self._timeout:
                self._on_lost(
                    f"The learner at {self._address} has not answered for {self._timeout:g} s: it has ended or cannot "
                    "be reached."
                )
                return

    def stop(self) -> None:
        """Ends the watch."""
        self._stop.set()

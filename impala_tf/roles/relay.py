"""A relay's process: passes the learner's parameters on to the actors of its machine until the process is ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from impala_tf import tensor_leak
from impala_tf.config import Config
from impala_tf.errors import UserError
from impala_tf.processes import parent
from impala_tf.roles import actor
from impala_tf.transport.relay import Relay

_LOGGER = logging.getLogger(__name__)


def run(config: Config, *, address: str, port: int, ready: Callable[[str], None]) -> None:
    """Passes parameters on, `config.launch.relay_rate` times a second at most, until a signal ends the process.

    Of the settings, it reads those that begin with "relay", `actor_threads` and `connect_timeout`; what the parameters
    are, the learner tells.

    Args:
      config: settings of the run.
      address: address of the learner's server, host:port.
      port: port of the relay's own server; 0: a free one.
      ready: called with the address of the relay's server, localhost:port, when actors can pull from it.

    Raises:
      UserError: as for `Relay`; the learner's architecture goes without a relay; or the first parameters could not be
        passed on in time.
    """
    launch = config.launch
    actor.limit_tensorflow(config)
    tensor_leak.stop()
    with Relay(
        address,
        port=port,
        timeout=launch.connect_timeout,
        check=lambda told: _check(told, address),
        on_end=actor.leave,
    ) as relay:
        if not relay.wait_until_passed_on(launch.connect_timeout):
            raise UserError(f"The parameters were not passed on within {launch.connect_timeout:g} s.")
        ready(relay.address)
        reported, passed_on = time.monotonic(), 1
        while True:
            due = time.monotonic() + 1 / launch.relay_rate
            passed_on += relay.pass_on()
            parent.beat()
            if time.monotonic() - reported > config.run.log_interval:
                reported = time.monotonic()
                _LOGGER.info("parameters passed on %d times; now those of update %d", passed_on, relay.learner_step)
            time.sleep(max(0.0, due - time.monotonic()))


def _check(told: dict[str, Any], address: str) -> None:
    """Raises UserError if actors of the run take more than parameters from their learner."""
    architecture, lag = told["settings"]["architecture"], told["settings"]["policy_lag"]
    if lag >= 0:
        raise UserError(
            f"The learner at {address} has --policy_lag={lag}, which a relay would add to: its actors pull from the "
            "learner itself."
        )
    if architecture != "impala":
        raise UserError(
            f"The learner at {address} has --architecture={architecture}, where parameters must be the newest: its "
            "actors pull from the learner itself, without a relay."
        )

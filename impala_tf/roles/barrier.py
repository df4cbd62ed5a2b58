"""Lets the learner and the actors wait for each other in synchronous schemes."""

from __future__ import annotations

import threading
from typing import Any

from impala_tf.errors import UserError


def wait_at(barrier: Any, timeout: float) -> None:
    """Waits until all parties have arrived.

    Args:
      barrier: a `multiprocessing` barrier.
      timeout: seconds.

    Raises:
      UserError: another party did not arrive in time or gave up.
    """
    try:
        barrier.wait(timeout)
    except threading.BrokenBarrierError:
        raise UserError(
            f"The learner and the actors did not meet within {timeout:g} s (--stall_timeout) of an update: one of them "
            "is too slow or has failed. Their own output is in the run's logs."
        ) from None

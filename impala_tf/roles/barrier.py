"""The meeting of learner and actors in synchronous schemes."""

from __future__ import annotations

import threading
from typing import Any

from impala_tf.errors import UserError


def wait_at(barrier: Any, timeout: float) -> None:
    """Waits until all parties have come.

    Args:
      barrier: of `multiprocessing`.
      timeout: seconds.

    Raises:
      UserError: somebody did not come in time, or has given up.
    """
    try:
        barrier.wait(timeout)
    except threading.BrokenBarrierError:
        raise UserError(f"Learner and actors did not meet within {timeout:g} s of an update.") from None

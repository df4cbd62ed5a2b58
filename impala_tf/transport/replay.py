"""The memory of the replay, which the learner's process holds: estimated before a run starts."""

from __future__ import annotations

import logging

from impala_tf import machine
from impala_tf.errors import UserError
from impala_tf.structures import Trajectory
from impala_tf.transport import rows

_LOGGER = logging.getLogger(__name__)
_ITEM_BYTES = 2400  # An allowance for what Reverb takes for each unroll, whatever its size.


def check_memory(unroll: Trajectory, size: int) -> None:
    """Logs how much memory a full replay takes, and checks that this machine has it.

    The estimate is an upper bound: Reverb compresses unrolls, images often to a fraction. What does not fit
    uncompressed is refused all the same, since how well a run's unrolls compress shows only when memory is short.

    Args:
      unroll: signature of one unroll, from `unroll_signature`.
      size: unrolls that the replay holds.

    Raises:
      UserError: the machine has less memory available.
    """
    each, available = unroll_bytes(unroll), machine.available_memory()
    needed, there = machine.size_text(size * each), machine.size_text(available)
    if size * each > available:
        raise UserError(
            f"--replay_size={size}: the replay may take {needed}, {machine.size_text(each)} an unroll before "
            f"compression, but {there} of memory are available here. At most {available // each} would fit."
        )
    _LOGGER.info(
        "the replay holds %s unrolls and takes at most %s of the %s of memory that are available",
        f"{size:,}",
        needed,
        there,
    )


def unroll_bytes(unroll: Trajectory) -> int:
    """Returns the bytes of one unroll of this signature in the replay, before compression."""
    return rows.signature(unroll).shape.num_elements() + _ITEM_BYTES

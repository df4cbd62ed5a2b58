"""Unrolls on their way into Reverb."""

from __future__ import annotations

import reverb
import tree

from impala_tf.structures import Trajectory
from impala_tf.transport import TRAJECTORIES, frame_stacks as frames


class UnrollWriter:
    """Inserts whole unrolls through one long-lived Reverb writer.

    An unroll is one append of [T + 1, ...] arrays and one item, so an item is either whole or not there: a process that
    dies while it writes leaves nothing torn behind. Writing step by step would compress and send the same bytes in
    more pieces.
    """

    def __init__(self, address: str, frame_stack: bool = False):
        """Args:
        address: of the server.
        frame_stack: that of the `EnvironmentSpec`; stacks are packed.
        """
        self._frame_stack = frame_stack
        self._writer = reverb.Client(address).trajectory_writer(num_keep_alive_refs=1)

    def write(self, unroll: Trajectory) -> None:
        """Copies and compresses one unroll ([T + 1, ...] numpy arrays) and sends it in the background."""
        self._writer.append(frames.pack(unroll) if self._frame_stack else unroll)
        newest = tree.map_structure(lambda column: column[-1], self._writer.history)
        self._writer.create_item(TRAJECTORIES, priority=1.0, trajectory=newest)

    def flush(self, timeout: float, unconfirmed: int = 0) -> bool:
        """Waits until the server has taken everything written but `unconfirmed` unrolls.

        The table makes writers wait while its queue is full, so this is where back-pressure is felt.

        Args:
          timeout: in seconds.
          unconfirmed: unrolls that may be under way when it returns.

        Returns:
          False if `timeout` passed first; nothing is lost, and the insertion goes on in the background.
        """
        try:
            self._writer.flush(block_until_num_items=unconfirmed, timeout_ms=int(timeout * 1000))
        except reverb.errors.DeadlineExceededError:
            return False
        return True

    def close(self) -> None:
        """Drops what has not been taken yet; `flush` first to keep it."""
        self._writer.close()

"""Writes unrolls into Reverb."""

from __future__ import annotations

from typing import Any

import reverb

from impala_tf.structures import Trajectory
from impala_tf.transport import REPLAY, TRAJECTORIES, frame_stacks, rows


class UnrollWriter:
    """Inserts whole unrolls through one long-lived Reverb writer.

    An unroll is one append of one row of bytes and one item, so a process that dies while it writes leaves no partial
    unroll. Writing step by step or field by field would compress and send the same bytes in more pieces.

    With replay, an unroll is an item of two tables that share its bytes. The queue's item is sent first: if the process
    dies in between, the unroll is in the queue alone. The replay always has room, so an unroll that waits for room in
    the queue may be in the replay already.
    """

    def __init__(self, address: str, unroll: Any, replay: bool = False):
        """Opens the writer.

        Args:
          address: address of the server, host:port.
          unroll: signature of one unroll, from `unroll_signature`; if its observations are `Frames`, stacks are packed.
          replay: whether the server has a table for replay.
        """
        self._tables = (TRAJECTORIES, REPLAY) if replay else (TRAJECTORIES,)
        self._frame_stack = isinstance(getattr(unroll, "observation", None), frame_stacks.Frames)
        self._packer = rows.Packer(unroll)
        self._writer = reverb.Client(address).trajectory_writer(num_keep_alive_refs=1)

    def write(self, unroll: Trajectory) -> None:
        """Copies and compresses one unroll ([T + 1, ...] numpy arrays) and sends it in the background."""
        self._writer.append(self._packer.pack(frame_stacks.pack(unroll) if self._frame_stack else unroll))
        for table in self._tables:
            self._writer.create_item(table, priority=1.0, trajectory=self._writer.history[-1])

    def flush(self, timeout: float, unconfirmed: int = 0) -> bool:
        """Waits until the server has taken all but `unconfirmed` of the unrolls written.

        The table makes writers wait while it is full, so back-pressure is felt here.

        Args:
          timeout: seconds.
          unconfirmed: number of unrolls that may still be in flight when it returns.

        Returns:
          False if `timeout` passed first; nothing is lost, and the insertion continues in the background.
        """
        try:
            items = unconfirmed * len(self._tables)
            self._writer.flush(block_until_num_items=items, timeout_ms=int(timeout * 1000))
        except reverb.errors.DeadlineExceededError:
            return False
        return True

    def close(self) -> None:
        """Closes the writer and drops the unrolls that the server has not taken yet; `flush` first to keep them."""
        self._writer.close()

"""A gate between a learner's updates: each takes as many unrolls of every actor as its share says, no more and no less.

What has happened lies in shared memory, and how many unrolls have arrived is asked where they arrive. So nothing is
lost with an actor that dies: its next process supplies what is still missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from multiprocessing import sharedctypes
from typing import Any

_LOOK_SECONDS = 0.25


class Gate:
    """The learner's side. Pass it and the `ActorGate`s to their processes when these start."""

    def __init__(self, context: Any, shares: Sequence[int]):
        """
        Args:
          context: of multiprocessing, with which the processes are started.
          shares: unrolls of each actor that an update takes.
        """
        self._updates = sharedctypes.RawValue("q", 0)
        # Only wakes those who wait; what is true is read from memory.
        self._wake = [context.Semaphore(0) for _ in shares]
        sent = sharedctypes.RawArray("q", len(shares))  # Updates for which an actor has sent its share.
        settling = sharedctypes.RawArray("b", len(shares))  # Whether an actor has been restarted and sent nothing yet.
        self._actors = [ActorGate(self._updates, sent, settling, self._wake, shares, i) for i in range(len(shares))]

    def actor(self, number: int) -> ActorGate:
        """Returns an actor's side."""
        return self._actors[number]

    def open(self) -> None:
        """Lets the actors act for the next update. Call it when they can pull the parameters of the last one."""
        self._updates.value += 1
        for each in self._wake:
            each.release()


class ActorGate:
    """An actor's side: `due`, then `sent` until all that was due has been sent, and again."""

    def __init__(self, updates: Any, sent: Any, settling: Any, wake: Any, shares: Sequence[int], number: int):
        self._updates, self._sent, self._settling, self._wake = updates, sent, settling, wake
        self._shares, self._number = shares, number
        self._due, self._for = 0, 0  # What is still to be sent, and after how many updates.

    def restart(self) -> None:
        """Says that this is not the first process of the actor: it sends what an earlier one has not. Call it first."""
        self._settling[self._number] = self._sent[self._number] <= self._updates.value

    def due(self, look: Callable[[], None], arrived: Callable[[], int | None]) -> int:
        """Returns the number of unrolls that the actor has to send for the next update; waits for the last one.

        It waits for as long as that takes. If the learner or another actor fails, the learner and the launcher notice.

        Args:
          look: called several times a second while it waits; what it raises ends the wait.
          arrived: returns how many unrolls of all actors have arrived in the run so far; None if it is not known now.
        """
        me = self._number
        while not self._due:
            self._for = self._updates.value
            if self._sent[me] <= self._for:
                self._due = self._missing(arrived) if self._settling[me] else self._shares[me]
            if not self._due:
                self._wake[me].acquire(timeout=_LOOK_SECONDS)
                look()
        return self._due

    def sent(self, unrolls: int) -> None:
        """Records that unrolls have arrived, at most as many as were due."""
        self._due -= unrolls
        if not self._due:
            self._has_sent()

    def _has_sent(self) -> None:
        self._sent[self._number] = self._for + 1
        self._settling[self._number] = False

    def _missing(self, arrived: Callable[[], int | None]) -> int:
        """Returns what is left to send for an actor that has been restarted; 0 also while that cannot be known."""
        if not self._others_have_sent():
            return 0
        # Nobody else sends anything now, and what this actor's last process had sent has long arrived.
        there = arrived()
        if there is None or self._updates.value != self._for:
            return 0
        missing = min(self._shares[self._number], (self._for + 1) * sum(self._shares) - there)
        if not missing:
            self._has_sent()
        return missing

    def _others_have_sent(self) -> bool:
        """Whether all others have sent their share for the next update; restarted ones after this one need not."""
        return all(
            self._sent[i] > self._for or (self._settling[i] and i > self._number)
            for i in range(len(self._shares))
            if i != self._number
        )

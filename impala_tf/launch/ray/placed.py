"""A host as the driver sees it: what it last said, and what it is to do. Never waits for it."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError, RayTaskError

from impala_tf.errors import UserError, one_line
from impala_tf.launch.ray.host import Received, Report, Start, Stop

_LOGGER = logging.getLogger(__name__)
_NEVER = float("-inf")
_ASK_SECONDS = 1.0
_END_SECONDS = 0.1  # Where the end of its process is awaited.
_PATIENCE_SECONDS = 5.0
_SILENT_SECONDS = 90.0  # Of a host that has not been lost as far as Ray knows. Ray takes 64 s to give up a machine.
_SHORT = 300  # Characters of Ray's explanations.


class Placed:
    """A host that Ray places, and places again when it is lost.

    Attributes:
      name: what runs there.
      report: its last report; None before the first.
      heard: when that arrived, in seconds of `time.monotonic`; -inf if none ever did.
      answers: whether it has answered the last question, as far as that is known.
      lines: log lines that have arrived; the reader removes them.
      frames: of the newest checkpoint that it has reported.
    """

    def __init__(self, name: str, place: Callable[[], Any]):
        """Has it placed.

        Args:
          name: what runs there.
          place: returns the handle of a new Ray actor that is a `Host`.
        """
        self.name, self._place = name, place
        self._actor = place()
        self.report: Report | None = None
        self.heard = _NEVER
        self.answers = False
        self.lines: list[tuple[int, str]] = []
        self.frames = 0
        self._orders = 0
        self._order: Start | Stop | None = None
        self._life = ""  # The only one that the order is for; "": whichever.
        self._before = _NEVER  # When the last report of a life arrived that may have left a process behind.
        self._received: Received | None = None
        self._answer: Any = None  # Ray's promise of one.
        self._next = self._asked = 0.0
        self._longest_silence = _SILENT_SECONDS

    def give(self, make: Callable[[int], Start | Stop], life: str = "") -> None:
        """Gives it an order, in place of the last one, now or when it has been placed.

        Args:
          make: returns the order with a number.
          life: the order is only for the host with this `Report.life`, not for one that replaces it; "": for any.
        """
        self._orders += 1
        self._order, self._life, self._next = make(self._orders), life, 0.0

    @property
    def followed(self) -> Report | None:
        """Its last report if it has followed the last order, else None."""
        report = self.report
        return report if report and self._order and report.order == self._order.number else None

    def free(self, lease: float) -> bool:
        """Whether it runs nothing, and what ran on a host that it replaces was heard of `lease` seconds ago or more."""
        report, now = self.report, time.monotonic()
        return bool(self.answers and report and not report.running and now - self._before > lease)

    def look(self) -> None:
        """Takes its answer, if there is one, and asks again, if it is time.

        Raises:
          UserError: it could not be made, and none has ever been; or what it is told fails on its machine.
        """
        now = time.monotonic()
        if self._answer is not None:
            if ray.wait([self._answer], timeout=0)[0]:
                self._take(now)
            elif self.report and now - self._asked > self._longest_silence:
                self._longest_silence *= 2  # There may be no room for another one.
                self._replace("does not answer")
            elif self.report and now - self._asked > _PATIENCE_SECONDS:
                self.answers = False
        if self._answer is None and now >= self._next:
            order = self._order
            if self.followed or (self._life and not (self.report and self.report.life == self._life)):
                order = None
            ending = isinstance(self._order, Stop) and self.report and self.report.running
            self._next, self._asked = now + (_END_SECONDS if ending else _ASK_SECONDS), now
            self._answer = self._actor.exchange.remote(self._received, order)

    def _take(self, now: float) -> None:
        answer, self._answer = self._answer, None
        try:
            report: Report = ray.get(answer)
        except ActorDiedError as error:  # For good: a host that is lost otherwise is placed again by Ray.
            cause = _cause(error)
            if self.report is None:
                raise UserError(f"The host of {self.name} could not be made on the cluster: {cause}") from None
            self._replace(f"has failed ({cause})")
        except RayTaskError as error:  # Its machine has another version of a package, or lacks a module, ...
            self._order = None  # It would fail again, while learners save.
            where = f" on {self.report.machine}" if self.report else ""
            raise UserError(f"The host of {self.name}{where} cannot do what it is told: {_cause(error)}") from None
        except RayError:
            self.answers = False
        else:
            before = self.report
            if before and before.life != report.life and (before.running or not self.followed):
                self._before = self.heard
            self.report, self.heard, self.answers = report, now, True
            self._longest_silence = _SILENT_SECONDS
            self._received = Received(report.life, report.serial)
            self.frames = max(self.frames, report.frames)
            self.lines += report.lines
            if self._order and not self.followed:
                self._next = 0.0  # It can only trust an order that comes with a fresh answer.

    def _replace(self, problem: str) -> None:
        _LOGGER.warning("the host of %s %s, and is replaced", self.name, problem)
        self.remove()
        self._actor, self._answer, self.answers = self._place(), None, False

    def remove(self) -> None:
        """Removes it from the cluster; its process ends with it, a learner's after it has saved."""
        with contextlib.suppress(RayError, ValueError):
            ray.kill(self._actor)


def _cause(error: Exception) -> str:
    """Returns the last line of Ray's explanation that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    found = next((line for line in reversed(lines) if "Error" in line), lines[0] if lines else one_line(error))
    return found[:_SHORT]

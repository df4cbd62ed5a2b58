"""One of the actors of a run on a cluster: where it runs, whether it works, and starting it again."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import pathlib
import time
from collections.abc import Callable
from typing import Any

from impala_tf.architectures.program import Node
from impala_tf.errors import UserError
from impala_tf.launch.processes import log_of
from impala_tf.launch.ray import folder
from impala_tf.launch.ray.host import Report, Start
from impala_tf.launch.ray.placed import Placed
from impala_tf.processes.restarts import Restarted

_ENDING_SECONDS = 2.0
_LOGGER = logging.getLogger(__name__)


class PlacedActor:
    """An actor, or a relay, over all of its processes.

    Attributes:
      host: its host.
      ever_ready: whether one of its processes has worked.
    """

    def __init__(
        self,
        host: Placed,
        logs: pathlib.Path,
        patience: float,
        adapt: Callable[[Node, Report], Node | None] = lambda node, _: node,
    ):
        """Starts nothing yet.

        Args:
          host: where it runs.
          logs: folder of its log.
          patience: seconds without a sign of life after which it hangs.
          adapt: returns the node for the machine where it is to run, which the host's report names; None: it has to
            wait.
        """
        self.host, self.ever_ready = host, False
        self._logs, self._patience, self._adapt = logs, patience, adapt
        self._node: Node | None = None
        self._life: Restarted[bool] = Restarted(self._begin)
        self._given = ""  # `Report.life` of the host that has the order to run it; "": none yet.
        self._ended_at = math.inf  # When the end of the current process was noticed.
        self._learners_since = 0.0  # When the learners were last started.
        self._early = True  # Whether the learner may not have begun to work when the current process started.

    def start(self, node: Node) -> None:
        """Has it run a node, in place of what it runs, as soon as it has a machine. `look` does it."""
        self._node, self._learners_since = node, time.monotonic()
        self._life.start()

    def again(self) -> None:
        """Has it run its node anew, as `adapt` now says."""
        self._given = ""

    def _begin(self, _restarts: int) -> bool:
        self.again()
        return True

    def _give(self, report: Report) -> None:
        """Gives its host the order, if it has not to wait."""
        assert self._node is not None
        if (node := self._adapt(self._node, report)) is None:
            return
        order = functools.partial(
            Start,
            name=node.name,
            work=node.work,
            starts=self._life.restarts,
            log=log_of(node, self._logs),
            leased=False,
            patience=self._patience,
        )
        self.host.give(order, report.life)
        self._given, self._ended_at = report.life, math.inf
        self._early = time.monotonic() - self._learners_since < folder.LONGEST_SECONDS

    def look(self, any_ready: bool) -> None:
        """Starts it, and starts it again when that is due; handles a failure of its process. Only while learners run.

        Args:
          any_ready: whether any actor of the run has ever worked.

        Raises:
          UserError: the failure would only come again.
        """
        if self._life.current is None:
            if not self._life.due:
                return
            self._life.start()
        if self.host.report is None or not self.host.answers:
            return
        if self.host.report.life != self._given:
            self._give(self.host.report)
            return
        report = self.host.followed
        if report is None:
            return
        self.ever_ready = self.ever_ready or report.ready
        if report.status is None:
            self._ended_at = math.inf
            return
        now = time.monotonic()
        self._ended_at = min(self._ended_at, now)
        if report.status > 0 and now - self._ended_at < _ENDING_SECONDS:
            return  # It may have failed because the learner is ending.
        self._ended_at = math.inf
        assert self._node is not None
        where = f"{self._node.name} on {report.machine}"
        failed = f"ended: {report.error or 'with exit status 0'}" if report.status >= 0 else report.error
        lasting = report.user_error or (report.learner_lost and not self._early)
        if not self._node.restarts or (lasting and not any_ready):
            raise UserError(f"{where.capitalize()} could not start: {report.error}")
        wait = self._life.failed()
        _LOGGER.warning("%s %s; restart %d in %g s", where, failed, self._life.restarts, wait)

    @property
    def runs(self) -> bool:
        """Whether its process runs, as far as is known."""
        report = self.host.followed
        return bool(self._life.current and self._given and self.host.answers and report and report.running)

    @property
    def acts(self) -> bool:
        """Whether it runs and has said that it works: the learner has taken its first unrolls."""
        return self.runs and self.host.followed is not None and self.host.followed.ready

    @property
    def missing(self) -> str:
        """Why it does not act; "" if it does."""
        if self.acts:
            return ""
        if self.host.report is None:
            return "waits for a machine"
        if not self.host.answers:
            return "is lost"
        return "restarts" if self.ever_ready else "starts"


def with_keywords(node: Node, **keywords: Any) -> Node:
    """Returns a node whose work is called with keywords, too."""
    return dataclasses.replace(node, work=functools.partial(node.work, **keywords))

"""One of the actors of a run on a cluster: where it runs, whether it works, and starting it again."""

from __future__ import annotations

import functools
import logging
import math
import pathlib
import time

from impala_tf.architectures.program import Node
from impala_tf.errors import UserError
from impala_tf.launch.processes import log_of
from impala_tf.launch.ray.host import Start
from impala_tf.launch.ray.placed import Placed
from impala_tf.processes.restarts import Restarted

_ENDING_SECONDS = 2.0
_LOGGER = logging.getLogger(__name__)


class PlacedActor:
    """An actor, over all of its processes.

    Attributes:
      host: its host.
      ever_ready: whether one of its processes has worked.
    """

    def __init__(self, host: Placed, logs: pathlib.Path, patience: float):
        """Starts nothing yet.

        Args:
          host: where it runs.
          logs: folder of its log.
          patience: seconds without a sign of life after which it hangs.
        """
        self.host, self.ever_ready = host, False
        self._logs, self._patience = logs, patience
        self._node: Node | None = None
        self._life: Restarted[bool] = Restarted(self._give)
        self._ended_at = math.inf  # When the end of the current process was noticed.

    def start(self, node: Node) -> None:
        """Has it run a node, in place of what it runs, as soon as it has a machine."""
        self._node, self._ended_at = node, math.inf
        self._life.start()

    def _give(self, restarts: int) -> bool:
        node = self._node
        assert node is not None
        order = functools.partial(
            Start,
            name=node.name,
            work=node.work,
            starts=restarts,
            log=log_of(node, self._logs),
            leased=False,
            patience=self._patience,
        )
        self.host.give(order)
        return True

    def look(self, any_ready: bool) -> None:
        """Handles a failure of its process; starts it again when that is due. Only while the learners run.

        Args:
          any_ready: whether any actor of the run has ever worked.

        Raises:
          UserError: the failure would only come again.
        """
        if self._life.current is None:
            if self._life.due:
                self._life.start()
            return
        report = self.host.followed
        if report is None or not self.host.answers:
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
        if not self._node.restarts or (report.user_error and not any_ready):
            raise UserError(f"{where.capitalize()} could not start: {report.error}")
        wait = self._life.failed()
        _LOGGER.warning("%s %s; restart %d in %g s", where, failed, self._life.restarts, wait)

    @property
    def runs(self) -> bool:
        """Whether its process runs, as far as is known."""
        report = self.host.followed
        return bool(self._life.current and self.host.answers and report and report.running)

    @property
    def acts(self) -> bool:
        """Whether it runs and the learner has taken its first unrolls."""
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

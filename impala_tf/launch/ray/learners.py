"""The learners of a run on a cluster: started together, and started again together when one of them is lost."""

from __future__ import annotations

import enum
import functools
import logging
import time
from collections.abc import Sequence

from impala_tf.architectures.program import Node
from impala_tf.errors import UserError
from impala_tf.launch.processes import log_of
from impala_tf.launch.ray import folder
from impala_tf.launch.ray.host import LEASE_SECONDS, Report, Start, Stop
from impala_tf.launch.ray.placed import Placed
from impala_tf.processes.restarts import Restarted
from impala_tf.records.logdir import LogDir
from impala_tf.topology import LearnerAddress

SAVE_SECONDS = 8.0
_LOGGER = logging.getLogger(__name__)
_LEASE_OVER_SECONDS = LEASE_SECONDS + 2.0  # Since a host's last report; the rest is for the kill.
_SILENT_SECONDS = 10.0  # After which a learner is taken for lost.
_MOST_FAILURES = 3  # In a row, before the first update.


class State(enum.Enum):
    """Of all learners."""

    WAITING = "waiting"  # For machines, or to be started again.
    RUNNING = "running"
    ENDING = "ending"
    FINISHED = "finished"


class Learners:
    """A run's learners. `look` again and again.

    Attributes:
      state: of all of them.
      hosts: theirs.
      starts: number of times that they have been started.
    """

    def __init__(self, hosts: Sequence[Placed], logdir: LogDir, patience: float):
        """Starts nothing yet.

        Args:
          hosts: one for each.
          logdir: folder of the run, which exists.
          patience: seconds without a sign of life after which a learner hangs.

        Raises:
          UserError: another run uses the folder.
        """
        self.hosts, self._logdir, self._patience = hosts, logdir, patience
        self.state, self.starts = State.WAITING, 0
        self._token = folder.mark(logdir)
        self._frames = logdir.frames
        self._lives: list[str] = []  # Of the hosts that run them.
        self._causes: dict[int, str] = {}  # Why learners are gone that have failed by no fault of their own.
        self._errors: dict[int, Report] = {}  # Of learners that have failed with an error.
        self._pause: Restarted[bool] = Restarted(lambda _: True)
        self._failures, self._ever_ready = 0, False
        self._excused = False  # Whether something else than what learners do has ended them.

    @property
    def frames(self) -> int:
        """Environment frames of the newest checkpoint that is known of."""
        return max(self._frames, *(host.frames for host in self.hosts))

    @property
    def ready(self) -> bool:
        """Whether they can be started: all have a machine, and no earlier one can be running any more."""
        due = self.starts == 0 or self._pause.due
        return self.state is State.WAITING and due and all(host.free(_LEASE_OVER_SECONDS) for host in self.hosts)

    def addresses(self) -> tuple[LearnerAddress, ...]:
        """Returns addresses for the next start, when they are `ready`."""
        reports = [host.report for host in self.hosts]
        return tuple(
            LearnerAddress(f"{report.machine}:{report.free_ports[0]}", f"{report.machine}:{report.free_ports[1]}")
            for report in reports
            if report
        )

    def start(self, nodes: Sequence[Node]) -> None:
        """Starts them, when they are `ready`."""
        self._lives, self._causes, self._errors, self._excused = [], {}, {}, False
        for host, node in zip(self.hosts, nodes, strict=True):
            assert host.report is not None
            work = functools.partial(
                folder.run_there, str(self._logdir.path), self._token, self.frames, host.report.machine, node.work
            )
            log = log_of(node, self._logdir.logs)
            start = functools.partial(
                Start, name=node.name, work=work, starts=self.starts, log=log, leased=True, patience=self._patience
            )
            host.give(start, host.report.life)
            self._lives.append(host.report.life)
        self._pause.start()
        self.starts += 1
        self.state = State.RUNNING

    def look(self, actors_run: bool) -> None:
        """Notices what has become of them.

        Args:
          actors_run: whether there are actors that could have sent what the learners wait for.

        Raises:
          UserError: a failure that would only come again.
        """
        if self.state is State.RUNNING:
            self._judge()
            if all(host.followed and host.followed.ready for host in self.hosts):
                self._failures, self._ever_ready = 0, True
        if self.state is State.ENDING:
            self._judge()
            if self.ended:
                self._conclude(actors_run)

    def end(self) -> None:
        """Asks them to save and end, at most `SAVE_SECONDS` later. Does not wait."""
        for life, host in zip(self._lives, self.hosts):
            if host.followed is None or host.followed.running:
                host.give(functools.partial(Stop, seconds=SAVE_SECONDS), life)

    @property
    def ended(self) -> bool:
        """Whether none of them runs, as far as their hosts have told; those that are lost count as ended."""
        reports = [host.followed for host in self.hosts[: len(self._lives)]]
        return all(self._gone(number) or (report and not report.running) for number, report in enumerate(reports))

    def error(self) -> str:
        """Returns the error of a learner that has failed while it ended; "" if none has."""
        reports = [host.followed for host in self.hosts[: len(self._lives)]]
        return next((report.error for report in reports if report and (report.status or 0) > 0), "")

    def _gone(self, number: int) -> bool:
        """Whether the host that ran a learner has been lost, or does not answer."""
        host = self.hosts[number]
        assert host.report is not None
        return host.report.life != self._lives[number] or time.monotonic() - host.heard > _SILENT_SECONDS

    def _judge(self) -> None:
        """Notes which have ended, and why; then all others have to end, too."""
        finished = 0
        for number, host in enumerate(self.hosts):
            if number in self._causes or number in self._errors:
                continue
            name, report = _name(number, len(self.hosts)), host.followed
            if self._gone(number):
                self._excused = True
                self._causes[number] = f"{name} is lost: its machine or its host is gone, or cannot be reached"
            elif report is None or report.status is None:
                continue
            elif report.status > 0:
                self._errors[number] = report
            elif report.status < 0:
                # Killed again and again before it makes an update: it may need more memory than there is.
                self._excused = self._excused or (report.ready and self.state is State.RUNNING)
                self._causes[number] = f"{name} {report.error}"
            elif report.asked and self.state is State.RUNNING:
                self._excused = True
                self._causes[number] = f"{name} was asked to end by a signal, and has saved"
            else:
                finished += 1
        if self.state is State.RUNNING:
            if self._causes or self._errors:
                self.state = State.ENDING
                self.end()
            elif finished == len(self.hosts):
                self.state = State.FINISHED

    def _conclude(self, actors_run: bool) -> None:
        """All have ended: decides whether they are started again."""
        self._failures = 0 if self._excused else self._failures + 1
        if self._causes:
            cause = "; ".join(self._causes[number] for number in sorted(self._causes))
            if self._failures >= _MOST_FAILURES:
                raise UserError(f"The learners failed {self._failures} times before their first update: {cause}")
        else:
            number, report = min(self._errors.items(), key=lambda item: (not item[1].user_error, item[0]))
            cause = f"{_name(number, len(self.hosts))} failed: {report.error}"
            # What has worked before may fail at a new start because of what is still changing: others, storage.
            hopeless = report.user_error and actors_run and (report.ready or not self._ever_ready)
            if hopeless or self._failures >= _MOST_FAILURES:
                raise UserError(f"{cause[0].upper()}{cause[1:]}")
        wait, frames = self._pause.failed(), self.frames
        again = f"resumes at {frames:,} frames" if frames else "starts again: there is no checkpoint yet"
        _LOGGER.warning("%s. The run %s, in %g s or when there is a machine.", cause, again, wait)
        self.state = State.WAITING


def _name(number: int, count: int) -> str:
    return "the learner" if count == 1 else f"learner {number}"

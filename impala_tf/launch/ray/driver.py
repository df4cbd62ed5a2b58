"""Runs a program on a Ray cluster, from the command's process: tells every host what to run, and where the others are.

The driver is also the directory: the learners' addresses are known when their hosts have been placed. Whenever learners
are started again, actors are started anew with the new addresses.

It waits for no host. Actors for which there is no room stay pending, which autoscalers see. They begin when Ray has
placed them.
"""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from impala_tf.architectures.program import Program
from impala_tf.errors import UserError
from impala_tf.launch.ray.actors import PlacedActor
from impala_tf.launch.ray.learners import SAVE_SECONDS, Learners, State
from impala_tf.launch.ray.placed import Placed
from impala_tf.launch.ray.relays import Relays
from impala_tf.records.logdir import LogDir
from impala_tf.topology import LearnerAddress

_LOGGER = logging.getLogger(__name__)
_LOOK_SECONDS = 0.2
_REMIND_SECONDS = 10.0
_ACTORS_SHARE = 0.5  # Of the stall timeout, as in `launch.local`.
_LONGEST_LIST = 4  # Actors of which the reason is said.
_PROGRESS = re.compile(r" *[\d,]+ frames \( *\d+%\)")
"""How a progress line begins (`records.progress`)."""


def run(
    describe: Callable[[Sequence[LearnerAddress], int], Program],
    place_learners: Sequence[Callable[[], Any]],
    place_actors: Sequence[Callable[[], Any]],
    logdir: LogDir,
    stop: threading.Event,
    stall_timeout: float = math.inf,
    relays: Relays | None = None,
) -> None:
    """Runs a program on the joined cluster until its learners end or `stop` is set.

    Actors and learners that are killed, hang, or lose their machines are started again, without limit; learners all
    together, from the newest checkpoint. The run ends with an error

    - if a learner fails with a `UserError` while actors act;
    - if learners fail or are killed three times in a row before their first update. Lost machines do not count;
    - if an actor fails with a `UserError` and none has ever worked. That it finds no learner counts only if it was
      started after the learner can have waited for the folder (`folder.LONGEST_SECONDS`).

    Whatever ends it, learners have 8 s to save.

    Args:
      describe: returns the program, given the learners' addresses and how many cores each has on its machine.
      place_learners: ask for a host each, which saves.
      place_actors: ask for a host each.
      logdir: folder of the run, on storage that the learners' machines share with this one; its `logs` exist.
      stop: set it to end the run early.
      stall_timeout: seconds without a `Beat` after which a learner hangs (`Child.hangs`); actors after half of it.
      relays: from which actors pull their parameters; None: they pull from the learners.

    Raises:
      UserError: what has ended the run.
    """
    hosts = [Placed(_named("learner", n, len(place_learners)), place) for n, place in enumerate(place_learners)]
    learners = Learners(hosts, logdir, stall_timeout)
    patience, adapt = _ACTORS_SHARE * stall_timeout, {"adapt": relays.join} if relays else {}
    actors = [
        PlacedActor(Placed(f"actor {n}", place), logdir.logs, patience, **adapt) for n, place in enumerate(place_actors)
    ]
    everyone = [*hosts, *(actor.host for actor in actors)]
    try:
        _Run(describe, learners, actors, everyone, relays).until_end(stop)
    finally:
        try:
            _let_save(learners, everyone)
        finally:
            for host in everyone:
                host.remove()
            if relays:
                relays.remove()


class _Run:
    def __init__(
        self,
        describe: Callable[[Sequence[LearnerAddress], int], Program],
        learners: Learners,
        actors: Sequence[PlacedActor],
        hosts: Sequence[Placed],
        relays: Relays | None,
    ):
        self._describe, self._learners, self._actors, self._hosts = describe, learners, actors, hosts
        self._relays = relays
        self._said, self._said_at = "", time.monotonic()

    def until_end(self, stop: threading.Event) -> None:
        learners = self._learners
        while learners.state is not State.FINISHED and not stop.wait(_LOOK_SECONDS):
            _look(self._hosts, self._summary)
            # A learner without actors would only wait, and end when nothing comes.
            if learners.ready and any(actor.host.answers for actor in self._actors):
                self._start()
            learners.look(any(actor.runs for actor in self._actors))
            if self._relays:
                self._relays.look(self._actors, learners.state is State.RUNNING)
            if learners.state is State.RUNNING:
                any_ready = any(actor.ever_ready for actor in self._actors)
                for actor in self._actors:
                    actor.look(any_ready)
            self._say_who_is_missing()

    def _start(self) -> None:
        addresses = self._learners.addresses()
        reports = [host.report for host in self._learners.hosts if host.report]
        nodes = [report.node for report in reports]
        program = self._describe(addresses, min(report.cores // nodes.count(report.node) for report in reports))
        self._learners.start(program.learners)
        if self._relays:
            self._relays.start([address.server for address in addresses])
        for actor, node in zip(self._actors, program.actors, strict=True):
            actor.start(node)
        _LOGGER.info("starting: learner at %s; %s", ", ".join(address.server for address in addresses), self._summary())

    def _missing(self) -> str:
        """Returns who is missing and why, as "actor 3 restarts, actor 7 waits for a machine"; "" if nobody is."""
        waiting = self._learners.state in (State.WAITING, State.ENDING)
        named = []
        if waiting:
            named = [f"{host.name} waits for a machine" for host in self._learners.hosts if host.report is None]
            named = named or ["the learner is started again"] * bool(self._learners.starts)
        named += [f"{actor.host.name} {actor.missing}" for actor in self._actors if actor.missing]
        more = len(named) - _LONGEST_LIST
        return ", ".join(named[:_LONGEST_LIST]) + f", and {more} more" * (more > 0)

    def _summary(self) -> str:
        """Returns "2 learners, 6 of 8 actors, 3 machines", and who is missing."""
        count, acting = len(self._actors), sum(actor.acts for actor in self._actors)
        actors = f"{count if acting == count else f'{acting} of {count}'} actor{'s' * (count != 1)}"
        places = {host.report.node for host in self._hosts if host.report and host.answers}
        learners = len(self._learners.hosts)
        return (
            f"{learners} learner{'s' * (learners > 1)}, {actors}, {len(places)} machine{'s' * (len(places) != 1)}"
            + (f" ({missing})" if (missing := self._missing()) else "")
        )

    def _say_who_is_missing(self) -> None:
        """Says it before there are progress lines, and while there are none."""
        now = time.monotonic()
        if now - self._said_at < _REMIND_SECONDS:
            return
        if self._learners.state is not State.RUNNING and (summary := self._summary()) != self._said:
            _LOGGER.info("waiting: %s", summary)
            self._said = summary
        self._said_at = now


def _look(hosts: Sequence[Placed], summary: Callable[[], str] | None = None) -> None:
    """Looks at all hosts, and logs the lines that have come; the summary is added to lines of progress."""
    for host in hosts:
        host.look()
        learner = host.name.startswith("learner")
        for level, text in host.lines:
            if learner and summary and _PROGRESS.match(text):
                text = f"{text}  {summary()}"
            elif not learner:
                text = f"{host.name}: {text}"
            if level >= logging.WARNING or host.name in ("learner", "learner 0"):
                _LOGGER.log(level, "%s", text)
        host.lines.clear()


def _let_save(learners: Learners, hosts: Sequence[Placed]) -> None:
    """Asks learners that still run to save and end, and waits for them.

    Raises:
      UserError: one of them has failed meanwhile.
    """
    if learners.state is State.FINISHED or not learners.starts or learners.ended:
        return
    learners.end()
    now = time.monotonic()
    said, deadline = now + 2.0, now + SAVE_SECONDS + 1.0
    while not learners.ended and (now := time.monotonic()) < deadline:
        _look(hosts)
        if now > said:
            _LOGGER.info("waiting for the learner to write its last checkpoint, at most %g s", SAVE_SECONDS)
            said = deadline
        time.sleep(0.05)
    if error := learners.error():
        raise UserError(f"The learner failed while it ended: {error}")


def _named(kind: str, number: int, count: int) -> str:
    return kind if count == 1 else f"{kind} {number}"

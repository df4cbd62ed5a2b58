"""Relays of a run on a cluster: one on each machine of actors, which pull their parameters from it."""

from __future__ import annotations

import logging
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from impala_tf.architectures.program import Node
from impala_tf.errors import UserError
from impala_tf.launch.ray.actors import PlacedActor, with_keywords
from impala_tf.launch.ray.host import Report
from impala_tf.launch.ray.placed import Placed

_LOGGER = logging.getLogger(__name__)
_WAIT_SECONDS = 60.0  # Of an actor that is to be started, for a relay.


class Relays:
    """The relays of a run. `look` again and again.

    A relay that fails is started again, and goes back to its port: actors then go on. A machine whose relay's host
    cannot be made has none from then on.
    """

    def __init__(
        self,
        describe: Callable[[str, str], Node],
        place: Callable[..., Any],
        logs: pathlib.Path,
        patience: float,
    ):
        """Starts nothing yet.

        Args:
          describe: returns a relay, whose work also takes `port` as a keyword, given the address of the learner's
            server and its own name.
          place: asks for a host on a machine, given Ray's name of it as `node`; raises `UserError` if that is gone.
          logs: folder of their logs.
          patience: seconds without a sign of life after which a relay hangs.
        """
        self._describe, self._place, self._logs, self._patience = describe, place, logs, patience
        self._servers: Sequence[str] = ()
        self._relays: dict[str, _Relay] = {}  # By Ray's names of their machines.
        self._made = 0

    def start(self, servers: Sequence[str]) -> None:
        """Has all of them begin anew, as learners have at these addresses."""
        self._servers = servers
        for relay in self._relays.values():
            self._start(relay)

    def _start(self, relay: _Relay) -> None:
        # All learners have the same parameters.
        relay.start(self._describe(self._servers[relay.number % len(self._servers)], relay.name))

    def look(self, actors: Sequence[PlacedActor], learners_run: bool) -> None:
        """Places relays where they are missing, removes them where no actors are left, and handles failures."""
        hosts = [actor.host for actor in actors if actor.host.report]
        for machine in self._relays.keys() - {host.report.node for host in hosts if host.report}:
            self._relays.pop(machine).remove()
        for machine in {host.report.node for host in hosts if host.report and host.answers} - self._relays.keys():
            self._relays[machine] = relay = _Relay(self._made, machine, self._place, self._logs, self._patience)
            self._made += 1
            if self._servers:
                self._start(relay)
        for machine, relay in self._relays.items():
            if relay.look(learners_run):
                for actor in actors:
                    if actor.host.report and actor.host.report.node == machine:
                        actor.again()

    def join(self, node: Node, report: Report) -> Node | None:
        """Returns an actor that pulls from the relay of its machine, or, if none works in time, from the learner.

        Args:
          node: the actor, whose work also takes `relay` as a keyword.
          report: of its host.

        Returns:
          The actor; None if it has to wait for the relay.
        """
        relay = self._relays.get(report.node)
        if relay and relay.works:
            return with_keywords(node, relay=f"{report.machine}:{relay.port}")
        return None if relay is None or relay.expected else node

    def remove(self) -> None:
        """Removes all of them from the cluster."""
        for relay in self._relays.values():
            relay.remove()
        self._relays.clear()


class _Relay:
    """The relay of one machine.

    Attributes:
      number, name: its own.
      port: of its server; 0: none yet.
    """

    def __init__(self, number: int, machine: str, place: Callable[..., Any], logs: pathlib.Path, patience: float):
        self.number, self.name, self.port = number, f"relay {number}", 0
        self._proven = self._moved = False  # Whether a server has worked at the port; whether it is a new one.
        self._expected_until = time.monotonic() + _WAIT_SECONDS
        self._placed: PlacedActor | None = None  # None: it cannot be made.
        try:
            host = Placed(self.name, lambda: place(node=machine))
            self._placed = PlacedActor(host, logs, patience, self._at_port)
        except UserError as error:
            self._give_up(error)

    def start(self, node: Node) -> None:
        """Has it begin anew, with a learner that is named in the node."""
        self._expected_until = time.monotonic() + _WAIT_SECONDS
        if self._placed:
            self._placed.start(node)

    def _at_port(self, node: Node, report: Report) -> Node:
        """Chooses another port unless the last one has worked: something else may have taken it meanwhile."""
        if report.free_ports and not self._proven:
            self._moved, self.port = bool(self.port), report.free_ports[0]
        self._proven = False
        return with_keywords(node, port=self.port)

    def look(self, learners_run: bool) -> bool:
        """Starts it, and starts it again, if learners run. Returns whether actors must look for it at a new port."""
        if not self._placed:
            return False
        host = self._placed.host
        try:
            host.look()
            if learners_run:
                self._placed.look(any_ready=True)
        except UserError as error:
            self._give_up(error)
            return False
        for level, text in host.lines:
            _LOGGER.log(level, "%s: %s", self.name, text)
        host.lines.clear()
        if not self.works:
            return False
        self._expected_until = time.monotonic() + _WAIT_SECONDS
        moved, self._proven, self._moved = self._moved, True, False
        return moved

    def _give_up(self, error: UserError) -> None:
        _LOGGER.warning("%s: %s; the actors of its machine go without it.", self.name, error)
        self.remove()

    @property
    def works(self) -> bool:
        """Whether parameters can be pulled from it."""
        return bool(self._placed and self._placed.acts)

    @property
    def expected(self) -> bool:
        """Whether it is to work soon."""
        return bool(self._placed and time.monotonic() < self._expected_until)

    def remove(self) -> None:
        """Removes it from the cluster."""
        if self._placed:
            self._placed.host.remove()
        self._placed = None

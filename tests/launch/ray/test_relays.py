"""Where relays are placed, when they are started again, and which actors pull from them: decisions."""

from __future__ import annotations

import functools

import pytest

from impala_tf.architectures.program import Node
from impala_tf.errors import UserError
from impala_tf.launch.ray import relays as relays_lib
from impala_tf.launch.ray.actors import PlacedActor
from impala_tf.launch.ray.host import Report, Start
from impala_tf.launch.ray.relays import Relays

IDLE = Report("life", 1, 0, "10.0.0.1", "node", 4, (5001, 5002), False, False, None, False, "", False, False, 0, ())


class Scripted:
    """Stands in for `Placed`: says what the test wants."""

    def __init__(self, name, place):
        self.name, self.place, self.machine = name, place, place()
        self.report = IDLE._replace(node=self.machine, life=f"{name} on {self.machine}")
        self.answers, self.removed, self.error = True, False, ""
        self.orders: list[Start] = []
        self.lines: list = []

    def give(self, make, life=""):
        assert life == self.report.life
        self.orders.append(make(len(self.orders) + 1))

    @property
    def followed(self):
        return self.report if self.orders and self.report.order == len(self.orders) else None

    def look(self):
        if self.error:
            raise UserError(self.error)

    def remove(self):
        self.removed = True

    def moves(self, machine):
        self.report = IDLE._replace(node=machine, life=f"{self.name} on {machine}")

    def works(self, ready=True):
        self.report = self.report._replace(
            order=len(self.orders), running=True, ready=ready, status=None, error="", free_ports=()
        )

    def ends(self, status, error, ports=(6001, 6002)):
        self.report = self.report._replace(running=False, status=status, error=error, free_ports=ports)

    @property
    def asked(self):
        """What the last order is called with."""
        return self.orders[-1].work.keywords


class Run:
    """A run's relays and actors."""

    def __init__(self, monkeypatch, tmp_path, *machines):
        self.relays_hosts: list[Scripted] = []
        self.gone: set[str] = set()
        monkeypatch.setattr(relays_lib, "Placed", self._placed)
        self.relays = Relays(
            lambda server, name: Node(name, functools.partial(int, server)), self._place, tmp_path, 9.0
        )
        self.actors = [
            PlacedActor(Scripted(f"actor {n}", lambda machine=machine: machine), tmp_path, 9.0, self.relays.join)
            for n, machine in enumerate(machines)
        ]
        self.hosts = [actor.host for actor in self.actors]

    def _place(self, node):
        if node in self.gone:
            raise UserError("its machine is gone")
        return node

    def _placed(self, name, place):
        self.relays_hosts.append(Scripted(name, place))
        return self.relays_hosts[-1]

    def start(self, *servers):
        self.relays.start(servers)
        for actor in self.actors:
            actor.start(Node(actor.host.name, functools.partial(int)))

    def look(self):
        self.relays.look(self.actors, True)
        for actor in self.actors:
            actor.look(True)

    @property
    def by_machine(self):
        return {host.machine: host for host in self.relays_hosts if not host.removed}


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Three actors on two machines; relays and actors work."""
    made = Run(monkeypatch, tmp_path, "a", "b", "b")
    made.relays.look(made.actors, False)
    made.start("here:1", "here:2")
    made.look()
    for host in made.relays_hosts:
        host.works()
    made.look()
    for host in made.hosts:
        host.works()
    return made


@pytest.fixture
def clock(monkeypatch):
    """Moves time on."""
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def later(seconds):
        now[0] += seconds

    return later


def test_actors_wait_for_the_relay_of_their_machine(monkeypatch, tmp_path):
    run = Run(monkeypatch, tmp_path, "a", "b", "b")
    run.hosts[2].answers = False
    run.start("here:1", "here:2")
    run.look()
    assert set(run.by_machine) == {"a", "b"} and len(run.relays_hosts) == 2
    assert all(host.asked == {"port": 5001} for host in run.relays_hosts)
    servers = {host.orders[0].work.args[0] for host in run.relays_hosts}
    assert servers == {"here:1", "here:2"}
    run.by_machine["a"].works(ready=False)
    run.by_machine["b"].works()
    run.look()
    assert [len(host.orders) for host in run.hosts] == [0, 1, 0]
    assert run.hosts[1].asked == {"relay": "10.0.0.1:5001"}
    assert run.actors[0].missing == "starts"
    run.by_machine["a"].works()
    run.hosts[2].answers = True
    run.look()
    assert all(host.asked == {"relay": "10.0.0.1:5001"} for host in run.hosts)


def test_without_a_relay_in_time_actors_pull_from_the_learner(monkeypatch, tmp_path, clock):
    run = Run(monkeypatch, tmp_path, "a")
    run.start("here:1")
    run.look()
    clock(59.0)
    run.look()
    assert run.hosts[0].orders == []
    clock(2.0)
    run.look()
    assert run.hosts[0].asked == {} and len(run.hosts[0].orders) == 1
    run.by_machine["a"].works()
    run.look()
    assert len(run.hosts[0].orders) == 1


def test_a_relay_that_dies_comes_back_to_its_port_and_its_actors_go_on(run, clock):
    run.look()
    relay = run.by_machine["b"]
    relay.ends(-9, "was ended by SIGKILL")
    run.look()
    clock(1.0)
    run.look()
    assert len(relay.orders) == 2 and relay.orders[1].starts == 1 and relay.asked == {"port": 5001}
    relay.works()
    run.look()
    assert [len(host.orders) for host in run.hosts] == [1, 1, 1]


def test_if_its_port_is_taken_it_takes_another_where_its_actors_start_anew(run, clock):
    run.look()
    relay = run.by_machine["b"]
    for _ in range(2):
        relay.ends(2, "the port is taken")
        for _ in range(3):
            clock(2.5)
            run.look()
        relay.works(ready=False)
    assert relay.asked == {"port": 6001} and [len(host.orders) for host in run.hosts] == [1, 1, 1]
    relay.works()
    run.look()
    assert [len(host.orders) for host in run.hosts] == [1, 2, 2]
    assert run.hosts[1].asked == {"relay": "10.0.0.1:6001"} and run.hosts[1].orders[1].starts == 0
    run.look()
    assert [len(host.orders) for host in run.hosts] == [1, 2, 2]


def test_new_learners_get_new_relays_and_no_actor_counts_until_it_has_one(run):
    assert all(actor.acts for actor in run.actors)
    run.start("there:7")
    assert not any(actor.runs for actor in run.actors)
    run.look()
    assert all(host.orders[-1].work.args == ("there:7",) for host in run.relays_hosts)
    assert [host.asked for host in run.relays_hosts] == [{"port": 5001}] * 2
    assert [len(host.orders) for host in run.hosts] == [1, 1, 1]
    for host in run.relays_hosts:
        host.works()
    run.look()
    assert [len(host.orders) for host in run.hosts] == [2, 2, 2]


def test_a_lost_machine_takes_its_relay_along(run):
    """Its actor moves to another machine and pulls there."""
    relay, moved = run.by_machine["a"], run.hosts[0]
    run.gone.add("a")
    moved.answers, relay.error = False, "its machine is gone"
    run.look()
    assert relay.removed and len(run.relays_hosts) == 2
    moved.moves("c")
    moved.answers = True
    run.look()
    assert set(run.by_machine) == {"b", "c"} and run.by_machine["c"].name == "relay 2" and len(moved.orders) == 1
    run.by_machine["c"].works()
    run.look()
    assert len(moved.orders) == 2 and moved.asked == {"relay": "10.0.0.1:5001"}
    run.relays.remove()
    assert not run.by_machine


def test_a_machine_without_actors_needs_no_relay(run):
    run.hosts[0].moves("b")
    run.look()
    assert set(run.by_machine) == {"b"}


def test_a_relay_that_cannot_be_made_is_said_once_and_gone_without(monkeypatch, tmp_path, caplog):
    run = Run(monkeypatch, tmp_path, "a")
    run.gone.add("a")
    run.start("here:1")
    for _ in range(3):
        run.look()
    assert run.hosts[0].asked == {} and len(run.hosts[0].orders) == 1
    assert caplog.messages == ["relay 0: its machine is gone; the actors of its machine go without it."]

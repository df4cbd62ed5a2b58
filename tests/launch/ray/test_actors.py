"""When failures of actors end the run: decisions, from what their hosts report."""

from __future__ import annotations

import pytest

from impala_tf.architectures.program import Node
from impala_tf.errors import UserError
from impala_tf.launch.ray import folder
from impala_tf.launch.ray.actors import PlacedActor
from impala_tf.launch.ray.host import Report

IDLE = Report("life", 1, 0, "10.0.0.1", "node", 4, (5001, 5002), False, False, None, False, "", False, False, 0, ())


class Scripted:
    """Stands in for `Placed`: says what the test wants."""

    def __init__(self):
        self.report, self.answers, self.orders = IDLE, True, 0

    def give(self, make, life=""):
        self.orders += 1
        self.report = IDLE._replace(order=self.orders, running=True)

    @property
    def followed(self):
        return self.report if self.orders else None

    def ends(self, error, **changes):
        self.report = self.report._replace(running=False, status=2, error=error, **changes)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """An actor, its host, and what moves time on and looks."""
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    host = Scripted()
    actor = PlacedActor(host, tmp_path, 300.0)  # type: ignore[arg-type]
    actor.start(Node("actor 0", int))
    actor.look(False)

    def later(seconds):
        for _ in range(3):
            actor.look(False)
            now[0] += seconds / 3
        actor.look(False)

    return host, later


def test_an_actor_that_cannot_work_ends_the_run(run):
    host, later = run
    host.ends("no such level", user_error=True)
    with pytest.raises(UserError, match=r"^Actor 0 on 10\.0\.0\.1 could not start: no such level$"):
        later(4.0)


def test_an_actor_that_finds_no_learner_ends_the_run_only_when_that_no_longer_waits_for_the_folder(run):
    host, later = run
    assert folder.LONGEST_SECONDS == 130.0
    for starts in (1, 2, 3):
        later(45.0)
        host.ends("No learner answered", learner_lost=True)
        later(6.0)
        assert host.orders == starts + 1 and host.report.running
    later(45.0)
    host.ends("No learner answered", learner_lost=True)
    with pytest.raises(UserError, match="could not start: No learner answered"):
        later(6.0)

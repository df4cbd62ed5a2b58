"""When learners on a cluster are started, ended and started again: decisions, from what their hosts report."""

from __future__ import annotations

import functools
import time

import pytest

from impala_tf.architectures.program import Node
from impala_tf.errors import UserError
from impala_tf.launch.ray import learners as learners_lib
from impala_tf.launch.ray.host import Report, Start, Stop
from impala_tf.launch.ray.learners import Learners, State
from impala_tf.records.logdir import LogDir

IDLE = Report("a", 1, 0, "10.0.0.1", "node", 4, (5001, 5002), False, False, None, False, "", False, False, 0, ())


class Scripted:
    """Stands in for `Placed`: says what the test wants."""

    def __init__(self, name="learner"):
        self.name, self.report, self.heard, self.answers, self.frames = name, IDLE, time.monotonic(), True, 0
        self.orders: list = []
        self.lease_over = True

    def give(self, make, life=""):
        self.orders.append((make(len(self.orders) + 1), life))

    @property
    def followed(self):
        return self.report if self.orders and self.report.order == len(self.orders) else None

    def free(self, lease):
        return self.answers and not self.report.running and self.lease_over

    def says(self, **changes):
        """A report on the last order."""
        self.report = self.report._replace(order=len(self.orders), **changes)
        self.heard = time.monotonic()

    def ends(self, status, error="", **changes):
        self.says(running=False, status=status, error=error, **changes)


def start(tmp_path, count=1, frames=0):
    (tmp_path / "checkpoints").mkdir(parents=True, exist_ok=True)
    if frames:
        (tmp_path / "checkpoints" / f"{frames:012d}").mkdir()
    hosts = [Scripted(f"learner {n}") for n in range(count)]
    learners = Learners(hosts, LogDir(str(tmp_path)), 300.0)
    learners._pause.failed = functools.partial(_no_wait, learners._pause.failed, learners)
    again(learners, hosts)
    return learners, hosts


def _no_wait(failed, learners):
    wait = failed()
    learners._pause._due = 0.0
    return wait


def again(learners, hosts):
    assert learners.ready
    learners.start([Node(host.name, int) for host in hosts])
    for host in hosts:
        assert isinstance(host.orders[-1][0], Start) and host.orders[-1][1] == host.report.life
        host.says(running=True, status=None, error="", user_error=False, asked=False, ready=False)
    learners.look(True)
    assert learners.state is State.RUNNING


def test_the_run_has_finished_when_all_learners_have(tmp_path):
    learners, hosts = start(tmp_path, 2)
    hosts[1].ends(0)
    learners.look(True)
    assert learners.state is State.RUNNING and not learners.ended
    hosts[0].ends(0)
    learners.look(True)
    assert learners.state is State.FINISHED and learners.error() == ""


@pytest.mark.parametrize(
    ("status", "changes", "cause"),
    [
        (-9, {"error": "was ended by SIGKILL (see log)"}, "learner 1 was ended by SIGKILL"),
        (-9, {"error": "gave no sign of life for 300 s and was killed (see log)"}, "gave no sign of life"),
        (0, {"asked": True}, "learner 1 was asked to end by a signal, and has saved"),
    ],
)
def test_a_learner_that_is_lost_ends_all_and_all_start_again(tmp_path, caplog, status, changes, cause):
    """Also where the others fail because of that, whatever they say."""
    learners, hosts = start(tmp_path, 2, frames=500)
    hosts[1].ends(status, **changes)
    learners.look(True)
    assert learners.state is State.ENDING
    assert [type(host.orders[-1][0]) for host in hosts] == [Stop, Start]  # The other has ended.
    hosts[0].ends(2, "the others are gone", user_error=True)
    hosts[0].frames = 700
    learners.look(True)
    assert learners.state is State.WAITING and learners.frames == 700
    assert cause in caplog.messages[0] and "The run resumes at 700 frames" in caplog.messages[0]
    hosts[0].lease_over = False
    assert not learners.ready
    hosts[0].lease_over = True
    again(learners, hosts)
    assert hosts[0].orders[-1][0].work.args[2] == 700, "the new learner must not begin below"
    assert hosts[0].orders[-1][0].starts == 1


def test_a_host_that_is_silent_or_replaced_has_lost_its_learner(tmp_path, monkeypatch):
    learners, (host,) = start(tmp_path)
    host.answers = False  # For a moment, it means nothing.
    learners.look(True)
    assert learners.state is State.RUNNING
    host.heard -= 11.0
    learners.look(True)
    assert learners.state is State.WAITING and learners.ended and not learners.ready
    host.report = IDLE._replace(life="b")
    host.answers, host.heard = True, time.monotonic()
    again(learners, [host])
    host.report = IDLE._replace(life="c")
    learners.look(True)
    assert learners.state is State.WAITING


def test_a_mistake_ends_the_run_unless_nobody_acts(tmp_path, caplog):
    """Without actors, a learner that gets nothing is right to give up, and is needed again when there are some."""
    learners, (host,) = start(tmp_path)
    host.ends(2, "No unrolls arrived for 300 s (see log)", user_error=True)
    learners.look(False)
    assert learners.state is State.WAITING and "No unrolls arrived" in caplog.messages[0]
    again(learners, [host])
    host.ends(2, "the disk is full (see log)", user_error=True)
    with pytest.raises(UserError, match=r"^The learner failed: the disk is full \(see log\)$"):
        learners.look(True)


def test_a_mistake_at_a_new_start_of_what_has_worked_may_pass(tmp_path):
    """Another learner may be slow to come back, a file server late."""
    learners, (host,) = start(tmp_path)
    host.says(ready=True)
    learners.look(True)
    host.ends(-9, "was ended by SIGKILL (see log)")
    learners.look(True)
    for _ in range(2):
        again(learners, [host])
        host.ends(2, "not all learners were there (see log)", user_error=True)
        learners.look(True)
        assert learners.state is State.WAITING
    again(learners, [host])
    host.says(ready=True)
    host.ends(2, "the disk is full (see log)", user_error=True)
    with pytest.raises(UserError, match="the disk is full"):
        learners.look(True)


def test_other_errors_end_the_run_when_they_come_again_and_again(tmp_path):
    learners, hosts = start(tmp_path, 2)

    def fail():
        for host in hosts:
            host.ends(1, f"ValueError: {host.name}")
        learners.look(True)
        for host in hosts:
            host.says()
        learners.look(True)

    for tries in range(5):
        fail()
        again(learners, hosts)
        if tries < 3:  # An update was made.
            for host in hosts:
                host.says(ready=True)
            learners.look(True)
    with pytest.raises(UserError, match=r"^Learner 0 failed: ValueError: learner 0$"):
        fail()


def dies(learners, host):
    host.ends(-9, "was ended by SIGKILL (see log)")
    learners.look(True)


def test_learners_that_are_killed_at_each_start_are_given_up(tmp_path):
    """As where there is too little memory. Those that work, or whose machine is lost, are not."""
    learners, (host,) = start(tmp_path)
    for tries in range(6):
        if tries < 3:
            host.says(ready=True)
            learners.look(True)
        dies(learners, host) if tries < 5 else None
        if tries < 5:
            again(learners, [host])
    with pytest.raises(UserError, match=r"^The learners failed 3 times before .*: the learner was ended by SIGKILL"):
        dies(learners, host)


def test_lost_machines_give_up_no_learners(tmp_path):
    learners, (host,) = start(tmp_path)
    for life in "bcdefg":
        if life == "e":  # A death in between.
            dies(learners, host)
        else:
            host.report = IDLE._replace(life=life)
            learners.look(True)
        again(learners, [host])
    for _ in range(4):
        host.ends(0, asked=True)
        learners.look(True)
        again(learners, [host])


def test_learners_are_asked_to_save_in_the_end(tmp_path):
    learners, hosts = start(tmp_path, 2)
    learners.end()
    assert [host.orders[-1][0] for host in hosts] == [Stop(2, learners_lib.SAVE_SECONDS)] * 2
    hosts[0].ends(0, asked=True)
    assert not learners.ended
    hosts[1].ends(2, "the disk is full (see log)", user_error=True)
    assert learners.ended and learners.error() == "the disk is full (see log)"


def test_nothing_is_ended_that_was_not_started(tmp_path):
    (tmp_path / "checkpoints").mkdir(parents=True)
    host = Scripted()
    learners = Learners([host], LogDir(str(tmp_path)), 300.0)
    learners.end()
    assert host.orders == [] and learners.ended and learners.error() == ""

"""Processes of a run that hang, and a fork server that hangs or is killed."""

from __future__ import annotations

import os
import signal
import threading
import time

import fake_programs as fake
import pytest
from fake_runs import actor_node, actor_nodes, learner_node, pids, run, stop_process

from impala_tf.architectures.program import Program
from impala_tf.errors import UserError
from impala_tf.processes import child, fork_server


def test_an_actor_that_hangs_is_named_killed_and_replaced(folder, logs, caplog):
    """After half of the time, since the learner gives up after all of it."""
    stop_process(folder / "actor 0, start 0")
    learner = learner_node(fake.learn_until, folder, "actor 0, start 1")
    run(Program((learner,), (actor_node(fake.act_and_beat, folder, "actor 0"),)), logs, stall_timeout=2.0)
    (message,) = caplog.messages
    log = logs / "actor_0.log"
    assert message == f"actor 0 gave no sign of life for 1 s and was killed (see {log}); restart 1 in 0.5 s"


def test_a_learner_that_hangs_is_killed_and_ends_the_run(folder, logs, monkeypatch):
    (folder / "checkpoints" / f"{1200:012d}").mkdir(parents=True)
    monkeypatch.setattr(child, "_STARTING_SECONDS", 1.0)  # It is not ready.
    stop_process(folder / "learner")
    start = time.monotonic()
    with pytest.raises(
        UserError,
        match=r"learner gave no sign of life for 1 s \(--stall_timeout\) .* 1,200 frames",
    ):
        run(Program((learner_node(fake.sleep, folder),), actor_nodes(folder)), logs, stall_timeout=1.0)
    assert time.monotonic() - start < 10


@pytest.mark.slow(8)
def test_a_run_survives_its_fork_server(folder, logs, caplog):
    """Where it is killed, processes go on, and those that end are restarted by a new one."""

    def kill():
        fake.wait_for(folder / "actor 0, start 0")
        fork_server.kill()
        os.kill(int(pids(folder / "actor 0, start 0")[0]), signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    learner = learner_node(fake.learn_until, folder, "actor 0, start 1")
    run(Program((learner,), (actor_node(fake.act_alone, folder, "actor 0"),)), logs)
    (message,) = caplog.messages
    assert message.startswith("actor 0 ended: its process has ended, as has the fork server, which would know how")


def test_a_fork_server_that_hangs_does_not_hold_up_the_end(folder, logs):
    stop = threading.Event()
    fork_server.ensure_running()
    os.kill(fork_server._SERVER._forkserver_pid, signal.SIGSTOP)
    threading.Timer(0.5, stop.set).start()
    start = time.monotonic()
    run(Program((learner_node(fake.sleep, folder),), actor_nodes(folder)), logs, stop)
    assert time.monotonic() - start < 5


@pytest.mark.slow(13)
def test_a_learner_that_has_finished_does_not_hang_and_its_actors_may_end(folder, logs, caplog):
    """Another one may evaluate for long after the last update."""
    learners = learner_node(fake.learn_for, folder, 5.0), learner_node(fake.learn_for, folder, 0.0)
    actors = (actor_node(fake.miss_the_learner, folder),)
    run(Program(learners, actors), logs, stall_timeout=3.0)  # There is a beat a second.
    assert caplog.messages == []

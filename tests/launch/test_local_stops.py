"""Runs that are asked to stop: before the start, during it, and while the learner works."""

from __future__ import annotations

import functools
import os
import signal
import threading
import time

import fake_programs as fake
from fake_runs import actor_nodes, learner_node, pids, run, stop_when

from impala_tf.architectures.program import Program
from impala_tf.launch import local, processes
from impala_tf.processes import fork_server


def test_a_learner_that_is_asked_to_stop_may_save(folder, logs, caplog):
    stop = stop_when(folder / "learner", folder / "actor 0, start 0")
    with caplog.at_level("INFO", "impala_tf"):
        run(Program((learner_node(fake.learn_and_save, folder),), actor_nodes(folder)), logs, stop)
    assert (folder / "saved").exists()
    assert caplog.messages[-1] == "saved"


def test_a_learner_that_does_not_stop_is_killed(folder, logs, caplog, monkeypatch):
    """With the programs that it started."""
    monkeypatch.setattr(local, "_SAVE_SECONDS", 0.5)
    monkeypatch.setattr(local, "_QUIET_SECONDS", 0.2)
    stop = stop_when(folder / "learner", folder / "actor 0, start 0")
    run(Program((learner_node(fake.learn_and_ignore, folder),), actor_nodes(folder)), logs, stop)
    assert caplog.messages == ["the learner did not end within 0.5 s and is killed; its last checkpoint is kept"]
    assert len(pids(folder / "learner")) == 2


def test_a_learner_without_an_update_is_not_waited_for(folder, logs, monkeypatch):
    monkeypatch.setattr(local, "_QUIET_SECONDS", 60.0)
    learner = functools.partial(fake.learn_and_ignore, ready=False)
    start = time.monotonic()
    run(Program((learner_node(learner, folder),), ()), logs, stop_when(folder / "learner"))
    assert time.monotonic() - start < 30


def test_a_learner_that_is_stopped_before_it_has_begun_is_no_error(folder, logs, caplog):
    """It has nothing to save yet, and SIGTERM still ends it."""
    run(Program((learner_node(fake.sleep, folder),), ()), logs, stop_when(folder / "learner"))
    assert caplog.messages == []


def test_a_stop_that_was_asked_for_before_the_start_ends_the_run(folder, logs):
    stop = threading.Event()
    stop.set()
    start = time.monotonic()
    run(Program((learner_node(fake.sleep, folder),), actor_nodes(folder, 2)), logs, stop)
    assert time.monotonic() - start < 30


def test_a_stop_while_an_actor_is_started_is_no_error(folder, logs, monkeypatch):
    """The fork server, which is killed for it, may hang."""
    stop, start = threading.Event(), processes.start

    def hang(node, *arguments, **options):
        if node.name == "actor 0":
            os.kill(fork_server._SERVER._forkserver_pid, signal.SIGSTOP)
            threading.Timer(0.2, stop.set).start()
        return start(node, *arguments, **options)

    monkeypatch.setattr(processes, "start", hang)
    run(Program((learner_node(fake.learn_and_save, folder),), actor_nodes(folder)), logs, stop)

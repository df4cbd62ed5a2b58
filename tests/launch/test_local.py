"""The launcher of processes on this machine, with programs that do nothing: processes that end and fail."""

from __future__ import annotations

import logging
import os
import signal
import threading

import fake_programs as fake
import pytest
from fake_runs import actor_node, actor_nodes, learner_node, pids, run

from impala_tf.architectures.program import Program
from impala_tf.errors import UserError
from impala_tf.launch import processes


def test_the_run_ends_when_the_learner_has_ended(folder, logs, caplog):
    """Its lines are on the console, those of actors only from warnings on; all of them are in the logs."""
    for seconds in (1.0, 2.5):
        (folder / f"spent {seconds}").touch()
    learner = learner_node(fake.learn_until, folder, "actor 1, start 0")
    with caplog.at_level("INFO", "impala_tf"):
        run(
            Program((learner,), (*actor_nodes(folder), actor_node(fake.act_and_report, folder, "actor 1", number=1))),
            logs,
        )
    messages = caplog.messages
    assert messages[0].endswith(f"the output of the learner and 2 actors is in {logs}")
    assert [message for message in messages[1:] if message != "actor 1: loud"] == ["learning", "learned"]
    assert {r.levelno for r in caplog.records if r.message == "actor 1: loud"} == {logging.WARNING}
    assert "INFO learned" in (logs / "learner.log").read_text()
    assert "INFO quiet" in (logs / "actor_1.log").read_text()
    assert (folder / "actor 0, start 0").exists()


def test_time_spent_arrives_once_for_each_record(folder, logs):
    spent = []

    def on_spent(name, record):
        spent.append((name, record))
        (folder / f"spent {record.seconds['environment']}").touch()

    learner = learner_node(fake.learn_until, folder, "actor 0, start 0")
    run(Program((learner,), (actor_node(fake.act_and_report, folder, "actor 0"),)), logs, on_spent=on_spent)
    assert [(name, record.seconds["environment"], record.elapsed) for name, record in spent] == [
        ("actor 0", 1.0, 4.0),
        ("actor 0", 2.5, 4.0),
    ]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("user error", r"The learner failed: the disk is full \(see .*learner\.log\)"),
        ("exception", r"The learner failed: ValueError: no shape \(see .*learner\.log\)"),
        ("segfault", r"The learner was ended by SIGSEGV \(see .*learner\.log\)\. There is no checkpoint yet"),
    ],
)
def test_a_learner_that_fails_ends_the_run(folder, logs, how, message):
    with pytest.raises(UserError, match=message):
        run(Program((learner_node(fake.learn_and_end, folder, how),), actor_nodes(folder)), logs)
    if how == "exception":
        assert "Traceback" in (logs / "learner.log").read_text()


@pytest.mark.slow(4)
@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("signal", "was ended by signal 9"),
        ("user error", "ended: no such level"),
        ("exception", "ended: RuntimeError: the dice are lost"),
        ("return", "ended: its process ended with exit status 0"),
    ],
)
def test_an_actor_that_dies_is_restarted_and_told_how_often_it_was(folder, logs, how, cause, caplog, monkeypatch):
    monkeypatch.setattr(processes, "_ENDING_SECONDS", 0.0)
    learner = learner_node(fake.learn_until, folder, "enough")
    actors = (actor_node(fake.act_and_end, folder, "actor 0", True, how), *actor_nodes(folder, 2)[1:])
    with caplog.at_level("INFO", "impala_tf"):
        run(Program((learner,), actors), logs)
    started = sorted(path.name for path in folder.glob("actor *"))
    assert started == [*(f"actor 0, start {i}" for i in range(3)), "actor 1, start 0"]
    assert [message for message in caplog.messages if "actor 0" in message] == [
        f"actor 0 {cause} (see {logs / 'actor_0.log'}); restart 1 in 0.5 s",
        f"actor 0 {cause} (see {logs / 'actor_0.log'}); restart 2 in 1 s",
    ]
    assert caplog.messages[-2:] == ["learned", "actors were restarted 2 times"]


def test_an_actor_that_worked_once_is_restarted_even_if_it_then_cannot_start(folder, logs, monkeypatch):
    monkeypatch.setattr(processes, "_ENDING_SECONDS", 0.0)
    learner = learner_node(fake.learn_until, folder, "enough")
    run(Program((learner,), (actor_node(fake.act_once, folder, "actor 0"),)), logs)
    assert (folder / "actor 0, start 2").exists()


def test_an_actor_that_is_killed_before_it_is_ready_is_restarted(folder, logs):
    """Somebody else's doing, such as the kernel's where memory runs out."""
    learner = learner_node(fake.learn_until, folder, "enough")
    run(Program((learner,), (actor_node(fake.act_and_end, folder, "actor 0", False, "signal"),)), logs)
    assert (folder / "actor 0, start 2").exists()


@pytest.mark.parametrize(
    ("how", "message"), [("user error", "no such level"), ("exception", "RuntimeError: the dice are lost")]
)
def test_an_actor_that_cannot_start_ends_the_run_with_its_error(folder, logs, how, message, monkeypatch):
    monkeypatch.setattr(processes, "_ENDING_SECONDS", 0.0)
    actors = (*actor_nodes(folder), actor_node(fake.act_and_end, folder, "actor 1", False, how, number=1))
    with pytest.raises(UserError, match=rf"^Actor 1 could not start: {message} \(see .*actor_1\.log\)$"):
        run(Program((learner_node(fake.sleep, folder),), actors), logs)
    assert not (folder / "actor 1, start 1").exists()


@pytest.mark.parametrize(
    ("ready", "how", "message"),
    [
        (True, "user error", "Actor 0 failed: it ended: no such level"),
        (True, "signal", "Actor 0 failed: it was ended by signal 9"),
        (False, "signal", "Actor 0 could not start: it was ended by signal 9"),
        (True, "return", "Actor 0 failed: it ended: its process ended with exit status 0"),
    ],
)
def test_an_actor_that_is_not_to_be_restarted_ends_the_run(folder, logs, ready, how, message, monkeypatch):
    monkeypatch.setattr(processes, "_ENDING_SECONDS", 0.0)
    actor = actor_node(fake.act_and_end, folder, "actor 0", ready, how, restarts=False)
    with pytest.raises(UserError, match=message):
        run(Program((learner_node(fake.sleep, folder),), (actor,)), logs)
    assert not (folder / "actor 0, start 1").exists()


@pytest.mark.parametrize("how", ["actor", "launcher"])
def test_whatever_ends_the_run_the_learner_may_save(folder, logs, how, monkeypatch):
    monkeypatch.setattr(processes, "_ENDING_SECONDS", 0.0)
    actor = actor_node(
        fake.act_and_end, folder, "actor 0", False, "user error" if how == "actor" else "", restarts=False
    )

    def fail(name, spent):
        raise ZeroDivisionError

    if how == "launcher":
        actor = actor_node(fake.act_and_report, folder, "actor 0")
    with pytest.raises(UserError if how == "actor" else ZeroDivisionError):
        run(Program((learner_node(fake.learn_and_save, folder),), (actor,)), logs, on_spent=fail)
    assert (folder / "saved").exists()


def test_a_learner_that_somebody_else_asks_to_end_has_not_finished(folder, logs):
    def end():
        fake.wait_for(folder / "learner")
        os.kill(int(pids(folder / "learner")[0]), signal.SIGTERM)

    threading.Thread(target=end, daemon=True).start()
    with pytest.raises(UserError, match=r"asked to end by a signal, and has saved\. There is no checkpoint yet"):
        run(Program((learner_node(fake.learn_and_save, folder),), ()), logs)
    assert (folder / "saved").exists()


@pytest.mark.parametrize("restarts", [True, False])
def test_an_actor_that_fails_because_the_learner_ends_is_no_error(folder, logs, restarts):
    """It may notice that the server is gone before the launcher notices that the learner is."""
    learner = learner_node(fake.learn_after, folder, "actor 0", 0.7)
    run(Program((learner,), (actor_node(fake.act_and_fail_with_the_learner, folder, restarts=restarts),)), logs)


def test_an_actor_whose_process_cannot_be_started_leaves_nothing_running(folder, logs, monkeypatch):
    started, start = [], processes.start

    def fail_at_the_third(node, *arguments, **options):
        started.append(node.name)
        if len(started) == 3:
            raise UserError("no more processes")
        process = start(node, *arguments, **options)
        (folder / f"pid of {node.name}").write_text(str(process.process.pid))
        return process

    monkeypatch.setattr(processes, "start", fail_at_the_third)
    with pytest.raises(UserError, match="no more processes"):
        run(Program((learner_node(fake.sleep, folder),), actor_nodes(folder, 3)), logs)
    assert started == ["learner", "actor 0", "actor 1"]
    assert len(list(folder.glob("pid of *"))) == 2

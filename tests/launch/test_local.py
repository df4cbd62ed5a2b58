"""The launcher of processes on this machine, with programs that do nothing."""

from __future__ import annotations

import functools
import logging
import os
import pathlib
import signal
import sys
import threading
import time

import pytest

sys.path.append(str(pathlib.Path(__file__).parent))  # Children get it from here, too.

import fake_programs as fake

from impala_tf.architectures.program import Node, Program
from impala_tf.errors import UserError
from impala_tf.launch import local
from impala_tf.processes import child, fork_server
from impala_tf.records.logdir import LogDir


@pytest.fixture
def folder(tmp_path):
    """Where the processes show what happened; none of them is left running."""
    yield tmp_path
    pids = [int(pid) for path in tmp_path.glob("*") if path.is_file() for pid in _pids(path)]
    deadline = time.monotonic() + 10
    while left := [pid for pid in pids if fake.is_running(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


@pytest.fixture
def logs(tmp_path):
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"


def _pids(path: pathlib.Path) -> list[str]:
    return [word for word in path.read_text().split() if word.isdecimal()]


def _learner(work, *arguments) -> Node:
    return Node("learner", functools.partial(work, *arguments), restarts=False)


def _actor(work, *arguments, number=0, restarts=True) -> Node:
    return Node(f"actor {number}", functools.partial(work, *arguments), restarts)


def _actors(folder, count=1, **options) -> tuple[Node, ...]:
    return tuple(_actor(fake.act, folder, f"actor {i}", number=i, **options) for i in range(count))


def _stop_when(path: pathlib.Path, also: pathlib.Path | None = None) -> threading.Event:
    """An event that is set when the files are there."""
    stop = threading.Event()

    def wait():
        for each in (path, also or path):
            fake.wait_for(each)
        stop.set()

    threading.Thread(target=wait, daemon=True).start()
    return stop


def _run(program, logs, stop=None, **options):
    local.run(program, LogDir(str(logs.parent)), stop or threading.Event(), **options)


def test_the_run_ends_when_the_learner_has_ended(folder, logs, caplog):
    """Its lines are on the console, those of actors only from warnings on; all of them are in the logs."""
    for seconds in (1.0, 2.5):
        (folder / f"spent {seconds}").touch()
    learner = _learner(fake.learn_until, folder, "actor 1, start 0")
    with caplog.at_level("INFO", "impala_tf"):
        _run(Program(learner, (*_actors(folder), _actor(fake.act_and_report, folder, "actor 1", number=1))), logs)
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

    learner = _learner(fake.learn_until, folder, "actor 0, start 0")
    _run(Program(learner, (_actor(fake.act_and_report, folder, "actor 0"),)), logs, on_spent=on_spent)
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
        _run(Program(_learner(fake.learn_and_end, folder, how), _actors(folder)), logs)
    if how == "exception":
        assert "Traceback" in (logs / "learner.log").read_text()


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
    monkeypatch.setattr(local, "_ENDING_SECONDS", 0.0)
    learner = _learner(fake.learn_until, folder, "enough")
    actors = (_actor(fake.act_and_end, folder, "actor 0", True, how), *_actors(folder, 2)[1:])
    with caplog.at_level("INFO", "impala_tf"):
        _run(Program(learner, actors), logs)
    started = sorted(path.name for path in folder.glob("actor *"))
    assert started == [*(f"actor 0, start {i}" for i in range(3)), "actor 1, start 0"]
    assert [message for message in caplog.messages if "actor 0" in message] == [
        f"actor 0 {cause} (see {logs / 'actor_0.log'}); restart 1 in 0.5 s",
        f"actor 0 {cause} (see {logs / 'actor_0.log'}); restart 2 in 1 s",
    ]
    assert caplog.messages[-2:] == ["learned", "actors were restarted 2 times"]


def test_an_actor_that_worked_once_is_restarted_even_if_it_then_cannot_start(folder, logs, monkeypatch):
    monkeypatch.setattr(local, "_ENDING_SECONDS", 0.0)
    learner = _learner(fake.learn_until, folder, "enough")
    _run(Program(learner, (_actor(fake.act_once, folder, "actor 0"),)), logs)
    assert (folder / "actor 0, start 2").exists()


def test_an_actor_that_is_killed_before_it_is_ready_is_restarted(folder, logs):
    """Somebody else's doing, such as the kernel's where memory runs out."""
    learner = _learner(fake.learn_until, folder, "enough")
    _run(Program(learner, (_actor(fake.act_and_end, folder, "actor 0", False, "signal"),)), logs)
    assert (folder / "actor 0, start 2").exists()


@pytest.mark.parametrize(
    ("how", "message"), [("user error", "no such level"), ("exception", "RuntimeError: the dice are lost")]
)
def test_an_actor_that_cannot_start_ends_the_run_with_its_error(folder, logs, how, message, monkeypatch):
    monkeypatch.setattr(local, "_ENDING_SECONDS", 0.0)
    actors = (*_actors(folder), _actor(fake.act_and_end, folder, "actor 1", False, how, number=1))
    with pytest.raises(UserError, match=rf"^Actor 1 could not start: {message} \(see .*actor_1\.log\)$"):
        _run(Program(_learner(fake.sleep, folder), actors), logs)
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
    monkeypatch.setattr(local, "_ENDING_SECONDS", 0.0)
    actor = _actor(fake.act_and_end, folder, "actor 0", ready, how, restarts=False)
    with pytest.raises(UserError, match=message):
        _run(Program(_learner(fake.sleep, folder), (actor,)), logs)
    assert not (folder / "actor 0, start 1").exists()


@pytest.mark.parametrize("how", ["actor", "launcher"])
def test_whatever_ends_the_run_the_learner_may_save(folder, logs, how, monkeypatch):
    monkeypatch.setattr(local, "_ENDING_SECONDS", 0.0)
    actor = _actor(fake.act_and_end, folder, "actor 0", False, "user error" if how == "actor" else "", restarts=False)

    def fail(name, spent):
        raise ZeroDivisionError

    if how == "launcher":
        actor = _actor(fake.act_and_report, folder, "actor 0")
    with pytest.raises(UserError if how == "actor" else ZeroDivisionError):
        _run(Program(_learner(fake.learn_and_save, folder), (actor,)), logs, on_spent=fail)
    assert (folder / "saved").exists()


def test_a_learner_that_somebody_else_asks_to_end_has_not_finished(folder, logs):
    def end():
        fake.wait_for(folder / "learner")
        os.kill(int(_pids(folder / "learner")[0]), signal.SIGTERM)

    threading.Thread(target=end, daemon=True).start()
    with pytest.raises(UserError, match=r"asked to end by a signal, and has saved\. There is no checkpoint yet"):
        _run(Program(_learner(fake.learn_and_save, folder), ()), logs)
    assert (folder / "saved").exists()


def _stop_process(path: pathlib.Path) -> None:
    """Sends SIGSTOP to the process that has written its number to `path`, once it is there."""

    def hang():
        fake.wait_for(path)
        os.kill(int(_pids(path)[0]), signal.SIGSTOP)

    threading.Thread(target=hang, daemon=True).start()


def test_an_actor_that_hangs_is_named_killed_and_replaced(folder, logs, caplog):
    """After half of the time, since the learner gives up after all of it."""
    _stop_process(folder / "actor 0, start 0")
    learner = _learner(fake.learn_until, folder, "actor 0, start 1")
    _run(Program(learner, (_actor(fake.act_and_beat, folder, "actor 0"),)), logs, stall_timeout=2.0)
    (message,) = caplog.messages
    log = logs / "actor_0.log"
    assert message == f"actor 0 gave no sign of life for 1 s and was killed (see {log}); restart 1 in 0.5 s"


def test_a_learner_that_hangs_is_killed_and_ends_the_run(folder, logs, monkeypatch):
    (folder / "checkpoints" / f"{1200:012d}").mkdir(parents=True)
    monkeypatch.setattr(child, "_STARTING_SECONDS", 1.0)  # It is not ready.
    _stop_process(folder / "learner")
    start = time.monotonic()
    with pytest.raises(
        UserError,
        match=r"learner gave no sign of life for 1 s \(--stall_timeout\) .* 1,200 frames",
    ):
        _run(Program(_learner(fake.sleep, folder), _actors(folder)), logs, stall_timeout=1.0)
    assert time.monotonic() - start < 10


def test_a_run_survives_its_fork_server(folder, logs, caplog):
    """Where it is killed, processes go on, and those that end are restarted by a new one."""

    def kill():
        fake.wait_for(folder / "actor 0, start 0")
        fork_server.kill()
        os.kill(int(_pids(folder / "actor 0, start 0")[0]), signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    learner = _learner(fake.learn_until, folder, "actor 0, start 1")
    _run(Program(learner, (_actor(fake.act_alone, folder, "actor 0"),)), logs)
    (message,) = caplog.messages
    assert message.startswith("actor 0 ended: its process has ended, as has the fork server, which would know how")


def test_a_fork_server_that_hangs_does_not_hold_up_the_end(folder, logs):
    stop = threading.Event()
    fork_server.ensure_running()
    os.kill(fork_server._SERVER._forkserver_pid, signal.SIGSTOP)
    threading.Timer(0.5, stop.set).start()
    start = time.monotonic()
    _run(Program(_learner(fake.sleep, folder), _actors(folder)), logs, stop)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("restarts", [True, False])
def test_an_actor_that_fails_because_the_learner_ends_is_no_error(folder, logs, restarts):
    """It may notice that the server is gone before the launcher notices that the learner is."""
    learner = _learner(fake.learn_after, folder, "actor 0", 0.7)
    _run(Program(learner, (_actor(fake.act_and_fail_with_the_learner, folder, restarts=restarts),)), logs)


def test_a_learner_that_is_asked_to_stop_may_save(folder, logs, caplog):
    stop = _stop_when(folder / "learner", folder / "actor 0, start 0")
    with caplog.at_level("INFO", "impala_tf"):
        _run(Program(_learner(fake.learn_and_save, folder), _actors(folder)), logs, stop)
    assert (folder / "saved").exists()
    assert caplog.messages[-1] == "saved"


def test_a_learner_that_does_not_stop_is_killed(folder, logs, caplog, monkeypatch):
    """With the programs that it started."""
    monkeypatch.setattr(local, "_SAVE_SECONDS", 0.5)
    monkeypatch.setattr(local, "_QUIET_SECONDS", 0.2)
    stop = _stop_when(folder / "learner", folder / "actor 0, start 0")
    _run(Program(_learner(fake.learn_and_ignore, folder), _actors(folder)), logs, stop)
    assert caplog.messages == ["the learner did not end within 0.5 s and is killed; its last checkpoint is kept"]
    assert len(_pids(folder / "learner")) == 2


def test_a_learner_that_is_stopped_before_it_has_begun_is_no_error(folder, logs, caplog):
    """It has nothing to save yet, and SIGTERM still ends it."""
    _run(Program(_learner(fake.sleep, folder), ()), logs, _stop_when(folder / "learner"))
    assert caplog.messages == []


def test_a_stop_that_was_asked_for_before_the_start_ends_the_run(folder, logs):
    stop = threading.Event()
    stop.set()
    start = time.monotonic()
    _run(Program(_learner(fake.sleep, folder), _actors(folder, 2)), logs, stop)
    assert time.monotonic() - start < 30


def test_a_stop_while_an_actor_is_started_is_no_error(folder, logs, monkeypatch):
    """The fork server, which is killed for it, may hang."""
    stop, start = threading.Event(), local._start

    def hang(node, *arguments, **options):
        if node.name == "actor 0":
            os.kill(fork_server._SERVER._forkserver_pid, signal.SIGSTOP)
            threading.Timer(0.2, stop.set).start()
        return start(node, *arguments, **options)

    monkeypatch.setattr(local, "_start", hang)
    _run(Program(_learner(fake.learn_and_save, folder), _actors(folder)), logs, stop)


def test_an_actor_whose_process_cannot_be_started_leaves_nothing_running(folder, logs, monkeypatch):
    started, start = [], local._start

    def fail_at_the_third(node, *arguments, **options):
        started.append(node.name)
        if len(started) == 3:
            raise UserError("no more processes")
        process = start(node, *arguments, **options)
        (folder / f"pid of {node.name}").write_text(str(process.process.pid))
        return process

    monkeypatch.setattr(local, "_start", fail_at_the_third)
    with pytest.raises(UserError, match="no more processes"):
        _run(Program(_learner(fake.sleep, folder), _actors(folder, 3)), logs)
    assert started == ["learner", "actor 0", "actor 1"]
    assert len(list(folder.glob("pid of *"))) == 2

"""The launcher of processes on this machine, with programs that do nothing."""

from __future__ import annotations

import functools
import logging
import pathlib
import sys
import threading
import time

import pytest

sys.path.append(str(pathlib.Path(__file__).parent))  # Children get it from here, too.

import fake_programs as fake

from impala_tf.architectures.program import Node, Program
from impala_tf.errors import UserError
from impala_tf.launch import local


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
    local.run(program, logs, stop or threading.Event(), **options)


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
        ("segfault", r"The learner was ended by signal 11 \(see .*learner\.log\)\. Run the same command again"),
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
        f"actor 0 {cause}; restart 1 in 0.5 s",
        f"actor 0 {cause}; restart 2 in 1 s",
    ]
    assert caplog.messages[-2:] == ["learned", "actors were restarted 2 times"]


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
        (True, "user error", "Actor 0 failed: no such level"),
        (True, "signal", "Actor 0 failed: its process was ended by SIGKILL"),
        (False, "signal", "Actor 0 could not start: its process was ended by SIGKILL"),
        (True, "return", "Actor 0 failed: its process ended with exit status 0"),
    ],
)
def test_an_actor_that_is_not_to_be_restarted_ends_the_run(folder, logs, ready, how, message, monkeypatch):
    monkeypatch.setattr(local, "_ENDING_SECONDS", 0.0)
    actor = _actor(fake.act_and_end, folder, "actor 0", ready, how, restarts=False)
    with pytest.raises(UserError, match=message):
        _run(Program(_learner(fake.sleep, folder), (actor,)), logs)
    assert not (folder / "actor 0, start 1").exists()


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
    monkeypatch.setattr(local, "_SHUTDOWN_SECONDS", 0.5)
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

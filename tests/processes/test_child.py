"""A child answers, fails in every way, and never outlives its parent."""

from __future__ import annotations

import gc
import logging
import os
import pathlib
import pickle
import signal
import sys
import threading
import time

import pytest

sys.path.append(str(pathlib.Path(__file__).parent))  # Children get it from here, too.

import works

from impala_tf.errors import UserError
from impala_tf.processes import child as child_module
from impala_tf.processes.child import FORK_SERVER, SPAWN, Child, ChildEnded, ChildFailed, end_all


@pytest.fixture(params=works.CONTEXTS)
def context(request: pytest.FixtureRequest):
    return works.CONTEXTS[request.param]


@pytest.mark.slow(6)
def test_it_answers(context):
    child = Child("adder", works.add, 2, 3, context=context)
    assert child.answer(60) == child.answer(0) == 5
    assert child.ends_within(30) and child.status == 0
    assert str(child.error) == "its process ended with exit status 0"  # For work that should run forever.
    child.end()


def test_an_answer_of_several_megabytes():
    child = Child("zeros", works.zeros, 5_000_000)
    assert child.answer(60) == bytes(5_000_000)
    child.end()
    child = Child("zeros", works.zeros, 5_000_000)
    child.end(60)  # Nobody wants the answer, and the child is not killed for trying to send it.
    assert child.status == 0


CAUSES = {
    "user error": (UserError, "no such\nlevel", 2),
    "raise": (ChildFailed, "Unpicklable: no way", 1),
    "unpicklable answer": (ChildFailed, "AttributeError: Can't pickle local object 'fail.<locals>.<lambda>'", 1),
    "exit": (ChildFailed, "SystemExit: 3", 1),
    "os exit": (ChildEnded, "its process ended with exit status 4", 4),
    "crash": (ChildEnded, "its process was ended by SIGSEGV", -signal.SIGSEGV),
}


@pytest.mark.parametrize("how", CAUSES)
def test_it_fails(how: str, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture):
    kind, message, status = CAUSES[how]
    child = Child("failing", works.fail, how, log=tmp_path / "log", context=FORK_SERVER)
    with pytest.raises(kind) as caught:
        child.answer(60)
    assert str(caught.value) == message and type(caught.value) is kind
    assert child.ends_within(30) and child.status == status
    assert type(child.error) is kind and child.describe_error() == f"{message} (see {tmp_path / 'log'})"
    child.end()
    assert str(child.error) == message  # Still.
    log = (tmp_path / "log").read_text()
    marks = {"user error": "ERROR: no such\nlevel", "raise": "Traceback", "crash": "Fatal Python error"}
    assert marks.get(how, "") in log and capfd.readouterr().err == ""


@pytest.mark.parametrize("how", ["user error", "raise"])
def test_without_a_log_an_error_is_only_told_to_the_parent(how: str, capfd: pytest.CaptureFixture):
    child = Child("failing", works.fail, how)
    with pytest.raises((UserError, ChildFailed)):
        child.answer(60)
    assert child.ends_within(30) and capfd.readouterr().err == ""
    child.end()


def test_a_log_that_cannot_be_opened_is_told_in_one_line(tmp_path: pathlib.Path, capfd: pytest.CaptureFixture):
    child = Child("failing", works.fail, "error", log=tmp_path / "removed" / "log", context=FORK_SERVER)
    with pytest.raises(UserError, match=r"The log file .*/removed/log cannot be opened: No such file or directory"):
        child.answer(60)
    child.end(10)
    assert capfd.readouterr().err == ""


def test_no_answer_in_time(context, tmp_path: pathlib.Path):
    child = Child("sleeper", works.sleep, str(tmp_path / "pids"), context=context)
    pids = works.noted(tmp_path / "pids")
    assert pids[0] == child.process.pid and child.error is None and not child.ends_within(0.05)
    assert child.describe_error() == "it is still running"
    with pytest.raises(ChildFailed, match=r"^there was no answer within 0\.2 s$"):
        child.answer(0.2)
    child.terminate()
    assert child.ends_within(30) and str(child.error) == "its process was ended by SIGTERM"
    child.end()
    assert works.all_end(pids)


def test_what_it_reports(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture):
    child = Child("reporter", works.log, log=tmp_path / "log", context=FORK_SERVER)
    assert not child.ready and child.spent is None
    assert child.answer(60) is None
    assert child.ready and child.spent == ({"a": 1.5}, 2.0)
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [(logging.WARNING, "reporter: loud 1")]
    child.end()
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["INFO quiet", "WARNING loud 1"]


def test_it_is_silent_from_its_last_beat_on(monkeypatch: pytest.MonkeyPatch):
    child = Child("beating", works.beat_for, 1.5, context=FORK_SERVER)
    start = time.monotonic()
    while not child.hangs(2.5) and time.monotonic() - start < 30:
        child.poll()
        assert child.silence < 1.6 or time.monotonic() - start > 1.5  # It beats once a second.
        time.sleep(0.05)
    assert child.silence > 2.5 and time.monotonic() - start > 3
    child.ready = False  # As if it had not finished starting.
    assert not child.hangs(2.5)
    monkeypatch.setattr(child_module, "_STARTING_SECONDS", 1.0)
    assert child.hangs(2.5)
    child.end()


def test_time_in_which_the_parent_was_stopped_is_no_silence(tmp_path: pathlib.Path):
    child = Child("sleeper", works.sleep, context=FORK_SERVER)
    child.poll()
    child._polled -= 1000.0
    child.poll()
    assert child.silence < 10
    child.end()


def test_its_lines_go_where_they_are_wanted(capfd: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture):
    taken: list[tuple[int, str]] = []
    on_line = lambda level, text: taken.append((level, text))  # noqa: E731
    child = Child("reporter", works.log, forward=logging.INFO, on_line=on_line)
    child.answer(60)
    assert taken == [(logging.INFO, "quiet"), (logging.WARNING, "loud 1")]
    child.end()
    assert not caplog.records and capfd.readouterr().err == ""


def test_a_parent_that_does_not_read_never_holds_it_up(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture):
    child = Child("chatty", works.log_much, str(tmp_path / "done"))
    works.noted(tmp_path / "done")
    assert child.answer(60) == 7
    lines = [record.getMessage() for record in caplog.records]
    assert 5 < len(lines) < 3000  # The rest were dropped; none was torn.
    assert len({line.lstrip("chaty: 0123456789") for line in lines}) <= 4  # Cut at the same length, number included.
    child.end()


def test_end_takes_the_programs_that_it_started_along(context, tmp_path: pathlib.Path):
    child = Child("sleeper", works.sleep, str(tmp_path / "pids"), context=context)
    pids = works.noted(tmp_path / "pids")
    child.end()
    assert child.status == -signal.SIGTERM and works.all_end(pids)
    child.end()
    child.kill()


def test_kill(tmp_path: pathlib.Path):
    child = Child("stubborn", works.ignore_sigterm, str(tmp_path / "pids"))
    pids = works.noted(tmp_path / "pids")
    child.kill()
    assert child.status == -signal.SIGKILL and works.all_end(pids)


def test_children_that_ignore_sigterm_are_killed_all_at_once(tmp_path: pathlib.Path):
    children = [Child("stubborn", works.ignore_sigterm, str(tmp_path / str(i)), context=FORK_SERVER) for i in range(5)]
    pids = [pid for i in range(5) for pid in works.noted(tmp_path / str(i))]
    start = time.monotonic()
    end_all(children)
    assert 1 <= time.monotonic() - start < 4
    assert [child.status for child in children] == [-signal.SIGKILL] * 5 and works.all_end(pids)


def test_an_orderly_child_is_given_time(tmp_path: pathlib.Path):
    child = Child("saver", works.save_on_sigterm, str(tmp_path / "pids"), orderly=True)
    works.noted(tmp_path / "pids")
    child.terminate()
    child.end(30)
    assert child.status == 0 and (tmp_path / "pids.saved").exists()


@pytest.mark.parametrize("how", ["exec", "fork"])
def test_a_program_that_has_inherited_its_files_does_not_hide_its_end(how: str, tmp_path: pathlib.Path):
    child = Child("crasher", works.crash_with_open_files, str(tmp_path / "pids"), how, log=tmp_path / "log")
    start = time.monotonic()
    with pytest.raises(ChildFailed, match=r"^its process was ended by SIGSEGV$"):
        child.answer(60)
    assert time.monotonic() - start < 30
    _, engine = works.noted(tmp_path / "pids")
    assert works.is_running(engine)
    child.end()
    assert works.all_end([engine])


def test_a_forgotten_child_ends(tmp_path: pathlib.Path):
    child = Child("sleeper", works.sleep, str(tmp_path / "pids"))
    pids = works.noted(tmp_path / "pids")
    del child
    gc.collect()
    assert works.all_end(pids)


@pytest.mark.parametrize("how", ["", "exit", "os exit", "crash", "wait"])
def test_its_own_children_end_with_it(how: str, context, tmp_path: pathlib.Path):
    name = next(name for name, each in works.CONTEXTS.items() if each is context)
    child = Child("outer", works.nest, str(tmp_path / "outer"), how, name, context=context, log=tmp_path / "log")
    pids = works.noted(tmp_path / "outer") + works.noted(tmp_path / "outer.inner")
    if how == "wait":
        child.kill()
    assert works.all_end(pids)
    child.end()


def test_it_may_be_started_by_a_thread_that_ends(tmp_path: pathlib.Path):
    started: list[Child] = []
    thread = threading.Thread(target=lambda: started.append(Child("saver", works.save_on_sigterm, str(tmp_path / "x"))))
    thread.start()
    thread.join()
    works.noted(tmp_path / "x")
    assert not started[0].ends_within(0.2)
    started[0].terminate()
    assert started[0].ends_within(30) and started[0].status == 0
    started[0].end()


def open_files() -> set[str]:
    """Without sockets: gRPC's threads, which earlier tests have left, may open some at any time."""
    gc.collect()  # What earlier tests have left.
    files = {os.readlink(link) for link in pathlib.Path("/proc/self/fd").iterdir() if link.is_symlink()}
    return {file for file in files if not file.startswith("socket:")}


def test_nothing_stays_open_where_it_cannot_be_started(monkeypatch: pytest.MonkeyPatch):
    Child("first", works.add, 1, 1).end()  # Starts the resource tracker.
    before = open_files()
    with pytest.raises((AttributeError, pickle.PicklingError)) as caught:
        Child("unpicklable", works.fail, lambda: None)
    assert caught.tb and open_files() <= before

    def cannot(self):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(SPAWN.Process, "start", cannot)
    message = r"^The actor 0 could not be started \(BlockingIOError: .*unavailable\)\.$"
    with pytest.raises(UserError, match=message) as error:
        Child("actor 0", works.add, 1, 1)
    assert error.tb and open_files() <= before


def test_nothing_stays_open_after_the_end(context):
    Child("first", works.add, 1, 1, context=context).end()
    before = open_files()
    child = Child("adder", works.add, 1, 1, context=context)
    assert child.answer(60) == 2
    child.end(30)
    del child
    assert open_files() <= before


def test_its_name_is_shown():
    child = Child("actor 3 of all of them", works.sleep)
    end = time.monotonic() + 60
    while (comm := pathlib.Path(f"/proc/{child.process.pid}/comm").read_text()) != "actor 3 of all \n":
        assert time.monotonic() < end, comm
        time.sleep(0.02)
    child.kill()

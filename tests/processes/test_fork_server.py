"""The fork server: it is spared the signals to its group, and ends with its process."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

sys.path.append(str(pathlib.Path(__file__).parent))  # Children get it from here, too.

import works

from impala_tf.errors import UserError
from impala_tf.processes import child as child_module
from impala_tf.processes import fork_server
from impala_tf.processes.child import FORK_SERVER, Child

HERE = pathlib.Path(__file__).parent

SCRIPT = """
import multiprocessing.resource_tracker, pathlib, sys
sys.path.append({here!r})
import works
from impala_tf.processes import fork_server, signals
from impala_tf.processes.child import FORK_SERVER, SPAWN, Child
if __name__ == "__main__":
    stop, received = signals.stop_on_signal()
    path = {path!r}
    child = Child("child", works.save_on_sigterm, path, context=FORK_SERVER)
    spawned = Child("spawned", works.save_on_sigterm, path + ".spawned", context=SPAWN)
    pids = works.noted(pathlib.Path(path)) + works.noted(pathlib.Path(path + ".spawned"))
    pids += [fork_server._SERVER._forkserver_pid, multiprocessing.resource_tracker._resource_tracker._pid]
    print(*pids, flush=True)
    assert stop.wait(60)
    alive = [works.is_running(pid) for pid in pids]
    assert all(alive), alive
    for each in (child, spawned):
        each.terminate()
        assert each.ends_within(60) and each.status == 0, each.describe_error()
    print(received, flush=True)
"""


@pytest.fixture(scope="module", autouse=True)
def nothing_to_import() -> Iterator[None]:
    """The tests kill one server after the other: none of them imports what those of other tests need."""
    _end_server()
    preloaded = fork_server._SERVER._preload_modules
    fork_server.preload([])
    yield
    _end_server()
    fork_server._SERVER._preload_modules = preloaded


def _end_server() -> None:
    fork_server.kill()
    fork_server._SERVER._stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_to_the_group_reach_only_the_command(number: signal.Signals, tmp_path: pathlib.Path):
    """`timeout` and schedulers send them so. At the end, nothing is left, neither processes nor files."""
    (tmp_path / "parent.py").write_text(SCRIPT.format(here=str(HERE), path=str(tmp_path / "pids")))
    temporary = tmp_path / ("long" * 20)  # Longer than the path of a socket may be.
    temporary.mkdir()
    _check_signal(number, tmp_path, str(temporary))
    assert not os.listdir(temporary)


def _check_signal(number: signal.Signals, tmp_path: pathlib.Path, temporary: str) -> None:
    environment = {**os.environ, "TMPDIR": temporary}
    command = [sys.executable, str(tmp_path / "parent.py")]
    options = {"cwd": HERE.parents[1], "env": environment, "start_new_session": True, "text": True}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as parent:
        assert parent.stdout and parent.stderr
        pids = list(map(int, parent.stdout.readline().split()))
        os.killpg(parent.pid, number)
        assert parent.stdout.readline() == f"[{number:d}]\n", parent.stderr.read()
        assert parent.stderr.read() == ""
    assert parent.returncode == 0
    assert works.all_end(pids, 1.0)  # By itself, the fork server would take longer, with TensorFlow.


def test_a_child_outlives_a_fork_server_that_is_killed(tmp_path: pathlib.Path):
    child = Child("saver", works.save_on_sigterm, str(tmp_path / "pids"), context=FORK_SERVER)
    works.noted(tmp_path / "pids")
    fork_server.kill()
    assert not child.ends_within(0.3) and child.status is None
    child.terminate()
    assert child.ends_within(30) and child.status == 0 and (tmp_path / "pids.saved").exists()
    child.end()
    failing = Child("failing", works.fail_late, str(tmp_path / "failing"), context=FORK_SERVER)
    works.noted(tmp_path / "failing")
    fork_server.kill()
    (tmp_path / "failing.now").touch()
    assert failing.ends_within(30) and failing.status == 2 and str(failing.error) == "no such\nlevel"
    failing.end()


def test_a_fork_server_that_hangs_is_an_error():
    fork_server.ensure_running()
    os.kill(fork_server._SERVER._forkserver_pid, signal.SIGSTOP)
    start = time.monotonic()
    message = r"The adder could not be started \(the fork server, which starts it, was killed\)"
    with pytest.raises(UserError, match=message), fork_server.killed_after(0.2):
        Child("adder", works.add, 2, 3, context=FORK_SERVER)
    assert time.monotonic() - start < 5
    child = Child("adder", works.add, 2, 3, context=FORK_SERVER)
    assert child.answer(60) == 5
    child.end()


def test_a_fork_server_that_hangs_does_not_hide_the_end_of_a_child(tmp_path: pathlib.Path, monkeypatch):
    """Otherwise, this process would wait for it for ever when it exits."""
    monkeypatch.setattr(child_module, "_KILL", (signal.SIGKILL, 0.2))
    child = Child("sleeper", works.sleep, str(tmp_path / "pids"), context=FORK_SERVER)
    pids = works.noted(tmp_path / "pids")
    os.kill(fork_server._SERVER._forkserver_pid, signal.SIGSTOP)
    child.kill()
    assert child.process.exitcode == fork_server.LOST and works.all_end(pids)


def test_it_is_left_alone_as_long_as_it_answers():
    child = Child("adder", works.add, 2, 3, context=FORK_SERVER)  # Not with a server that an earlier test has killed.
    assert child.answer(60) == 5
    child.end()
    pid, stop = fork_server._SERVER._forkserver_pid, threading.Event()
    with fork_server.killed_after(600, stop):
        stop.clear()
    assert works.is_running(pid)

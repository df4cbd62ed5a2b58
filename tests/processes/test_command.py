"""Commands that are started as programs: how they end, with this process or before it."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from impala_tf.errors import UserError
from impala_tf.processes.command import Command, end_all

ROOT = pathlib.Path(__file__).parents[2]
IGNORES = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
SAVES = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path(sys.argv[1]).write_text("saved"), sys.exit(3)))
print("up", flush=True)
time.sleep(60)
"""
PARENT = """
import pathlib, sys, time
from impala_tf.processes.command import Command
started = Command([sys.executable, "-c", sys.argv[1], sys.argv[2]], pathlib.Path(sys.argv[3]))
print(started.pid, flush=True)
time.sleep(60)
"""


def wait_for(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def has_ended(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def is_up(output: pathlib.Path):
    return lambda: output.exists() and "up" in output.read_text()


def test_its_output_and_the_reason_of_its_failure(tmp_path):
    output = tmp_path / "output"
    output.write_text("ERROR: of an earlier start\n")
    code = "import sys; print('some line'); print('ERROR: no such level', file=sys.stderr); print('bye'); sys.exit(2)"
    command = Command([sys.executable, "-c", code], output)
    wait_for(lambda: command.status is not None)
    assert command.status == 2 and command.error() == "no such level"
    command.close()
    command = Command([sys.executable, "-c", "print('last words'); raise SystemExit(4)"], output)
    wait_for(lambda: command.status is not None)
    assert command.error() == "it ended with exit status 4 after: last words"
    command.close()


def test_it_is_asked_to_end_and_killed_if_it_does_not(tmp_path):
    outputs = [tmp_path / "a", tmp_path / "b"]
    commands = [
        Command([sys.executable, "-c", code, str(tmp_path / "file")], output)
        for code, output in zip((SAVES, IGNORES), outputs)
    ]
    for output in outputs:
        wait_for(is_up(output))
    assert all(os.getsid(command.pid) == command.pid for command in commands)
    end_all(commands, 0.5)
    assert [command.status for command in commands] == [3, -signal.SIGKILL]
    assert (tmp_path / "file").read_text() == "saved" and commands[1].error().startswith("it ended with SIGKILL")


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal is Linux's")
def test_it_ends_in_order_when_its_parent_is_killed(tmp_path):
    output, saved = tmp_path / "output", tmp_path / "file"
    line = [sys.executable, "-c", PARENT, SAVES, str(saved), str(output)]
    parent = subprocess.Popen(line, stdout=subprocess.PIPE, cwd=ROOT)
    pid = int(parent.stdout.readline())
    wait_for(is_up(output))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_for(saved.exists)
    wait_for(lambda: has_ended(pid))


KILLED = """
import os, pathlib, signal, subprocess, sys
from impala_tf.processes import command
class Popen(subprocess.Popen):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        print(self.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
command.subprocess.Popen = Popen
command.Command([sys.executable, "-c", "import time; time.sleep(60)"], pathlib.Path(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal is Linux's")
def test_its_parent_is_killed_just_when_it_has_started_it(tmp_path):
    line = [sys.executable, "-c", KILLED, str(tmp_path / "output")]
    done = subprocess.run(line, stdout=subprocess.PIPE, cwd=ROOT, timeout=60)
    assert done.returncode == -signal.SIGKILL
    wait_for(lambda: has_ended(int(done.stdout)))


def test_a_program_that_does_not_exist_is_named(tmp_path):
    program = str(tmp_path / "nothing")
    command = Command([program], tmp_path / "output")
    wait_for(lambda: command.status is not None)
    assert command.status == 1
    assert command.error() == f"{program} could not be started: No such file or directory."
    command.close()


def test_one_that_cannot_be_started_leaves_no_file_open(tmp_path):
    before = os.listdir("/dev/fd")
    with pytest.raises(UserError, match="could not be started: No such file"):
        Command([sys.executable], tmp_path / "nowhere" / "output")
    assert os.listdir("/dev/fd") == before

"""Commands in forks are like those that users start."""

from __future__ import annotations

import signal

import pytest

PARENT = """
import os, pathlib, signal, sys, time
from impala_tf.processes.command import Command
folder = pathlib.Path(sys.argv[1])
line = [sys.executable, "-m", "impala_tf.run.train", "--env=catch", "--role=actor", "--address=localhost:9"]
wrong, waits = Command([*line, "--no_such_flag"], folder / "wrong"), Command(line, folder / "waits")
while wrong.status is None:
    time.sleep(0.02)
assert waits.pid != wrong.pid and os.getsid(waits.pid) == waits.pid and waits.status is None
print(wrong.status, wrong.error(), (folder / "wrong").read_text(), os.readlink(f"/proc/{waits.pid}/cwd"))
sys.stdout.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("arguments", [("--version",), ("--no_such_flag",), ("--logdir=nowhere",)])
def test_it_prints_the_same_and_has_the_same_status(start, arguments):
    warm, cold = [start(*arguments, command=("-m", "run.export"), cold=cold) for cold in (False, True)]
    assert warm.finish(60) == cold.finish(60), warm.describe()
    assert (warm.out, warm.err) == (cold.out, cold.err)
    warm.wait_until_gone()


def test_a_run_is_killed_by_a_signal_and_nothing_is_left(start, tmp_path):
    run = start("--env=catch", "--num_actors=1", f"--logdir={tmp_path}", "--total_frames=100000000")
    run.wait_until(lambda: "first update done" in run.out, 60)
    assert len(run.children("learner")) == len(run.children("actor 0")) == 1
    run.process.kill()
    assert run.finish(10) == -signal.SIGKILL
    run.wait_until_gone(10)


def test_a_command_that_it_starts_ends_with_it(start, tmp_path):
    said = []
    for cold in (False, True):
        (tmp_path / str(cold)).mkdir()
        run = start(str(tmp_path / str(cold)), command=("-c", PARENT), cold=cold)
        assert run.finish(60) == -signal.SIGKILL, run.describe()
        run.wait_until_gone(30)
        said.append(run.out.rpartition(" "))
    assert said[0][0] == said[1][0] and "Unknown flag --no_such_flag" in said[0][0]

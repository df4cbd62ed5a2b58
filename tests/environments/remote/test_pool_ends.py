"""Environments in processes of their own end with the process that plays them, however it ends."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

sys.path.append(str(pathlib.Path(__file__).parents[1]))  # Processes get it from here, too.

import instances
from instances import all_ended, running

from impala_tf.processes.child import FORK_SERVER, Child

ROOT = pathlib.Path(__file__).parents[3]

PARENT = """
import sys, time
sys.path.append({here!r})
import instances, numpy as np
from impala_tf import environments
from impala_tf.environments.remote.lockstep import Lockstep
from impala_tf.environments.remote.pool import WorkerPool
if __name__ == "__main__":
    env_id = "gymnasium/instances:Vector-v0"
    spec = environments.spec("gymnasium/CartPole-v1")
    spec = spec._replace(observation=spec.observation._replace(shape=(2,)))
    pool = WorkerPool(spec, [env_id] * 2, {{}}, 0, 60.0, restart=False)
    environment = Lockstep(pool, 60.0, pool.close)
    environment.reset()
    print("ready", flush=True)
    for _ in range(3):
        environment.step(np.zeros(2))
    {then}
"""


def run_parent(tmp_path: pathlib.Path, how: str, then: str) -> subprocess.Popen:
    (tmp_path / "instances").mkdir()
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(here=str(pathlib.Path(__file__).parents[1]), then=then))
    variables = {**os.environ, "INSTANCES": instances.configure(tmp_path / "instances", 1, how)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, script], cwd=ROOT, text=True, env=variables, **pipes)  # type: ignore[call-overload]


@pytest.mark.parametrize("how", ["", "hang"])
@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM])
def test_the_parent_is_killed(how: str, sig: signal.Signals, tmp_path: pathlib.Path):
    with run_parent(tmp_path, how, "time.sleep(600)") as parent:
        assert parent.stdout.readline() == "ready\n"  # type: ignore[union-attr]
        assert len(running(tmp_path / "instances")) == 4
        os.kill(parent.pid, sig)
        assert all_ended(tmp_path / "instances")


@pytest.mark.parametrize("then", ["pass", "raise SystemExit", "environment.close()"])
def test_the_parent_ends(then: str, tmp_path: pathlib.Path):
    with run_parent(tmp_path, "", then) as parent:
        assert parent.communicate(timeout=60) == ("ready\n", "")
        assert parent.returncode == 0
    assert all_ended(tmp_path / "instances", 1.0)


def test_in_a_process_of_a_run(tmp_path: pathlib.Path):
    directory = tmp_path / "instances"
    directory.mkdir()
    child = Child("actor 0", instances.in_processes, str(directory), context=FORK_SERVER, log=tmp_path / "log")
    end = time.monotonic() + 60
    while not child.ready and child.error is None and time.monotonic() < end:
        time.sleep(0.02)
    assert child.ready, child.describe_error()
    assert len(running(directory)) == 4
    child.kill()
    assert all_ended(directory)

"""Instances in processes of their own: the same games as in one process, and failures of every kind."""

from __future__ import annotations

import functools
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

HERE = pathlib.Path(__file__).parent
sys.path.append(str(HERE))  # Processes get it from here, too.

import instances  # noqa: E402

from impala_tf.environments.base import EnvironmentFailed  # noqa: E402
from impala_tf.environments.gymnasium_env import GymnasiumEnvironment  # noqa: E402
from impala_tf.errors import UserError  # noqa: E402


def running(directory: pathlib.Path) -> set[int]:
    """The processes of the instances and of their engines that are still there."""
    pids = {int(pid) for file in directory.iterdir() for pid in file.read_text().split()}
    return {pid for pid in pids if _state(pid) not in ("", "Z")}


def _state(pid: int) -> str:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def all_ended(directory: pathlib.Path, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while running(directory) and time.monotonic() < end:
        time.sleep(0.02)
    return not running(directory)


def test_the_same_games_as_in_one_process():
    one, many = [
        GymnasiumEnvironment("gymnasium/instances:Spoken-v0", 3, seed=7, processes=processes)
        for processes in (False, True)
    ]
    assert one.spec == many.spec
    random, kept = np.random.default_rng(0), []
    pairs = [(one.reset(), many.reset())]
    for t in range(300):
        actions = random.integers(3, size=3)
        if t % 2:
            one.send(actions)
            many.send(actions)
            pairs.append((one.receive(), many.receive()))
        else:
            pairs.append((one.step(actions), many.step(actions)))
        kept.append(pairs[-1][1].observation["image"].copy())
    one.close()
    many.close()
    for here, there in pairs:
        np.testing.assert_equal(here, there)
        assert [x.dtype for x in here[1:]] == [x.dtype for x in there[1:]]
    for (_, output), copy in zip(pairs[1:], kept):  # Later steps have not written into it.
        np.testing.assert_array_equal(output.observation["image"], copy)
    assert sum(int(output.terminated.sum()) for _, output in pairs) > 30
    assert sum(int(output.truncated.sum()) for _, output in pairs) > 30


def test_two_environments_step_at_once(tmp_path: pathlib.Path):
    make = functools.partial(instances.Vector, str(tmp_path))
    environments = [GymnasiumEnvironment("x", 1, 0, make_one=make, processes=True) for _ in range(2)]
    for environment in environments:
        environment.reset()
        environment.send(np.ones(1))
    assert all(environment._env.parent_pipes[0].poll(30) for environment in environments)  # Before any is waited for.
    for environment in environments:
        np.testing.assert_array_equal(environment.receive().observation, [[1, 1]])
        environment.close()
    assert all_ended(tmp_path)


def failing(tmp_path: pathlib.Path, how: str, when: str, deadline: float = 60.0) -> GymnasiumEnvironment:
    make = functools.partial(instances.Vector, str(tmp_path), 1, how, when)
    return GymnasiumEnvironment("gymnasium/Vector-v0", 3, 0, make_one=make, processes=True, deadline=deadline)


CAUSES = {
    "raise": r"raised Unpicklable: no way",
    "exit": r"its process ended with exit status 3",
    "crash": r"its process was ended by SIGSEGV",
}


@pytest.mark.parametrize("when", ["reset", "step"])
@pytest.mark.parametrize("how", CAUSES)
def test_an_instance_fails(tmp_path: pathlib.Path, how: str, when: str):
    environment = failing(tmp_path, how, when)
    start = time.monotonic()
    with pytest.raises(EnvironmentFailed, match=rf"^gymnasium/Vector-v0: instance \d:? {CAUSES[how]}.*$"):
        environment.reset()
        start = time.monotonic()
        for _ in range(3):
            environment.step(np.zeros(3))
    assert time.monotonic() - start < 20  # Not the deadline.
    assert len(list(tmp_path.iterdir())) == 4 and all_ended(tmp_path)
    environment.close()


def test_an_instance_hangs(tmp_path: pathlib.Path):
    environment = failing(tmp_path, "hang", "step", deadline=20.0)
    environment.reset()
    environment._env.deadline = 1.0
    with pytest.raises(EnvironmentFailed, match=r"^gymnasium/Vector-v0: instance \d did not answer within 1 s$"):
        for _ in range(3):
            environment.step(np.zeros(3))
    assert all_ended(tmp_path)


def test_a_slow_instance_is_waited_for(tmp_path: pathlib.Path):
    environment = failing(tmp_path, "slow", "step")
    environment.reset()
    for step in range(1, 5):
        np.testing.assert_array_equal(environment.step(np.zeros(3)).observation[:, 0], step)
    environment.close()
    assert all_ended(tmp_path)


@pytest.mark.parametrize(
    "how, cause, deadline",
    [("raise", "Unpicklable: no way", 60.0), ("exit", "ended with exit status 3", 60.0), ("hang", "within 3 s", 3.0)],
)
def test_an_instance_cannot_be_made(tmp_path: pathlib.Path, how: str, cause: str, deadline: float):
    make = functools.partial(instances.Vector, str(tmp_path), 0, how, "make")
    with pytest.raises(EnvironmentFailed, match=f"^x: it could not be made.*{cause}"):
        GymnasiumEnvironment("x", 1, 0, make_one=make, processes=True, deadline=deadline)
    assert all_ended(tmp_path)


def test_a_user_error_is_the_same_as_in_one_process():
    for processes in (False, True):
        with pytest.raises(UserError, match=r"unknown Gymnasium id 'CartPol-v1'. Did you mean gymnasium/CartPole-v1"):
            GymnasiumEnvironment("gymnasium/CartPol-v1", 1, 0, processes=processes)


PARENT = """
import functools, sys, time
sys.path.append({here!r})
import numpy as np
import instances
from impala_tf.environments.gymnasium_env import GymnasiumEnvironment
if __name__ == "__main__":
    make = functools.partial(instances.Vector, {directory!r}, 1, {how!r})
    environment = GymnasiumEnvironment("x", 2, 0, make_one=make, processes=True)
    environment.reset()
    print("ready", flush=True)
    for _ in range(3):
        environment.step(np.zeros(2))
    {then}
"""


@pytest.mark.parametrize("how", ["", "hang"])
@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM])
def test_the_parent_is_killed(tmp_path: pathlib.Path, how: str, sig: signal.Signals):
    directory = tmp_path / "instances"
    directory.mkdir()
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(here=str(HERE), directory=str(directory), how=how, then="time.sleep(600)"))
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, cwd=HERE.parents[1], text=True) as parent:
        assert parent.stdout and parent.stdout.readline() == "ready\n"
        time.sleep(0.3)
        assert len(running(directory)) == 4
        os.kill(parent.pid, sig)
    assert all_ended(directory)


@pytest.mark.parametrize("then", ["pass", "raise SystemExit", "environment.close()"])
def test_the_parent_ends(tmp_path: pathlib.Path, then: str):
    directory = tmp_path / "instances"
    directory.mkdir()
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(here=str(HERE), directory=str(directory), how="", then=then))
    result = subprocess.run([sys.executable, script], capture_output=True, cwd=HERE.parents[1], text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "ready\n", "")
    assert all_ended(directory, 0.5)


def test_in_a_process_of_a_run(tmp_path: pathlib.Path):
    from impala_tf.config import Config
    from impala_tf.processes.children_old import Child

    directory = tmp_path / "instances"
    directory.mkdir()
    work = functools.partial(instances.in_processes, directory=str(directory))
    child = Child("actor 0", work, Config(), tmp_path / "log")
    end = time.monotonic() + 120
    while not child.ready and child.status is None and time.monotonic() < end:
        time.sleep(0.1)
    assert child.ready, child.error
    assert len(running(directory)) == 4
    child.kill()
    assert all_ended(directory)

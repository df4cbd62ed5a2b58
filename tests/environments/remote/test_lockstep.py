"""Environments in processes of their own as one batch: the same games as in one process, and failures of every kind."""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import signal
import sys
import tempfile
import time

import numpy as np
import pytest

sys.path.append(str(pathlib.Path(__file__).parents[1]))  # Processes get it from here, too.

import instances
from instances import all_ended

from impala_tf import environments
from impala_tf.environments.base import EnvironmentFailed
from impala_tf.environments.remote import pool
from impala_tf.environments.remote.lockstep import Lockstep
from impala_tf.environments.remote.pool import WorkerPool
from impala_tf.errors import UserError
from impala_tf.processes.child import Child
from impala_tf.structures import ArraySpec, EnvironmentOutput, EnvironmentSpec

SPOKEN, VECTOR = "gymnasium/instances:Spoken-v0", "gymnasium/instances:Vector-v0"
SPEC = EnvironmentSpec(ArraySpec((2,), np.dtype(np.float32)), num_actions=2, frames_per_step=1)


def make(env_ids, spec=SPEC, seed=0, deadline=60.0, restart=False) -> Lockstep:
    workers = WorkerPool(spec, env_ids, {}, seed, deadline, restart)
    return Lockstep(workers, deadline, workers.close)


def test_the_same_games_as_in_one_process():
    here = environments.make(SPOKEN, 1, seed=7)
    there = make([SPOKEN], here.spec, seed=7)
    assert (there.spec, there.num_envs) == (here.spec, 1)
    random, kept = np.random.default_rng(0), []
    pairs = [(here.reset(), there.reset())]
    for t in range(400):
        actions = random.integers(3, size=1)
        if t % 2:
            here.send(actions)
            there.send(actions)
            pairs.append((here.receive(), there.receive()))
        else:
            pairs.append((here.step(actions), there.step(actions)))
        kept.append(pairs[-1][1].observation["image"].copy())
    here.close()
    there.close()
    for mine, other in pairs:
        np.testing.assert_equal(mine, other)
        assert [x.dtype for x in mine[1:]] == [x.dtype for x in other[1:]]
    for (_, output), copy in zip(pairs[1:], kept):  # Later steps have not written into it.
        np.testing.assert_array_equal(output.observation["image"], copy)
    assert sum(int(output.terminated.sum()) for _, output in pairs) > 15
    assert sum(int(output.truncated.sum()) for _, output in pairs) > 15


def test_several_workers_have_seeds_of_their_own():
    environment = make([SPOKEN] * 3, environments.spec(SPOKEN), restart=True)
    assert len(np.unique(environment.reset().observation["image"], axis=0)) == 3
    environment.close()


def test_two_environments_step_at_once(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("INSTANCES", instances.configure(tmp_path))
    both = [make([VECTOR]), make([VECTOR])]
    for environment in both:
        environment.reset()
        environment.send(np.ones(1))
    # Both have answered before any is waited for.
    assert all(environment._mailbox._mailbox._announced.poll(30) for environment in both)  # type: ignore[attr-defined]
    for environment in both:
        np.testing.assert_array_equal(environment.receive().observation, [[1, 1]])
        environment.close()
    assert all_ended(tmp_path)


def play(environment: Lockstep, steps: int = 3) -> list:
    outputs = [environment.reset()]
    return outputs + [environment.step(np.zeros(environment.num_envs)) for _ in range(steps)]


CAUSES = {
    "raise": r"Unpicklable: no way",
    "exit": r"its process ended with exit status 3; it wrote: Didn't find map 'x' : No such file",
    "crash": r"its process was ended by SIGSEGV",
}


@pytest.mark.parametrize("when", ["make", "reset", "step"])
@pytest.mark.parametrize("how", CAUSES)
def test_without_restarts_a_failure_ends_all(how: str, when: str, tmp_path: pathlib.Path, monkeypatch):
    monkeypatch.setenv("INSTANCES", instances.configure(tmp_path, 1, how, when))
    environment = make([VECTOR] * 2)
    start = time.monotonic()
    with pytest.raises(EnvironmentFailed, match=rf"^{VECTOR}: {CAUSES[how]}$"):
        play(environment)
    assert time.monotonic() - start < 30  # Not the deadline.
    assert len(list(tmp_path.iterdir())) == 2 and all_ended(tmp_path)
    with pytest.raises(EnvironmentFailed, match="have been closed"):
        environment.receive()
    environment.close()


@pytest.mark.parametrize("when, deadline", [("step", 60.0), ("make", 1.0)])
def test_an_instance_that_hangs(when: str, deadline: float, tmp_path: pathlib.Path, monkeypatch):
    monkeypatch.setenv("INSTANCES", instances.configure(tmp_path, 0, "hang", when))
    environment = make([VECTOR], deadline=deadline)
    with pytest.raises(
        EnvironmentFailed, match=rf"^{VECTOR}: it did not answer within {2 if when == 'make' else 1} s$"
    ):
        if when == "step":
            environment.reset()
            environment._mailbox._deadline = environment._deadline = 1.0  # type: ignore[attr-defined]
            for _ in range(3):
                environment.step(np.zeros(1))
        environment.reset()
    assert all_ended(tmp_path)


def test_a_slow_instance_is_waited_for(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("INSTANCES", instances.configure(tmp_path, 1, "slow"))
    environment = make([VECTOR] * 2)
    steps = [output.observation[:, 0].tolist() for output in play(environment, 4)]
    assert steps == [[t, t] for t in range(5)]
    environment.close()
    assert all_ended(tmp_path)


def test_one_starts_at_a_time_and_one_that_hangs_meanwhile_keeps_the_others_only_for_a_while(tmp_path, monkeypatch):
    """If all started at once on few cores, all of them could miss their deadline."""
    monkeypatch.setenv("INSTANCES", instances.configure(tmp_path, 0, "hang", "reset"))
    workers = WorkerPool(SPEC, [VECTOR] * 3, {}, 0, 60.0, starts_at_once=1)
    with contextlib.closing(workers):
        workers.open()
        while not list(tmp_path.iterdir()):
            assert workers.take(0.02) == []
        end = time.monotonic() + 0.7
        while time.monotonic() < end:
            assert workers.take(0.02) == []
        assert len(list(tmp_path.iterdir())) == 1
        monkeypatch.setattr(pool, "_STARTING_SECONDS", 0.1)
        answered: list[int] = []
        while len(answered) < 2 and time.monotonic() < end + 30:
            answered += [number for number, _, _ in workers.take(0.02)]
        assert sorted(answered) == [1, 2]
    assert all_ended(tmp_path)


def test_nothing_is_left_in_the_temporary_directory(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir(), (tmp_path / "instances").mkdir()
    monkeypatch.setenv("INSTANCES", instances.configure(tmp_path / "instances", 0, "exit"))
    environment = make([VECTOR], restart=True)
    environment.reset()
    (folder,) = (tmp_path / "tmp").iterdir()
    assert (folder / "0" / "left").exists()  # By the instance.
    play_until_back(environment)
    assert capfd.readouterr().err.count("Didn't find map") == 1  # For the log of this process.
    environment.close()
    assert not list((tmp_path / "tmp").iterdir())


def play_until_back(environment: Lockstep) -> list[EnvironmentOutput]:
    """Steps until an instance that has failed has been back for two steps; returns all outputs."""
    outputs: list[EnvironmentOutput] = []
    deadline = time.monotonic() + 60
    while len(outputs) < 3 or not outputs[-3].episode_length.any() or any(o.episode_length.any() for o in outputs[-2:]):
        outputs.append(environment.step(np.zeros(environment.num_envs)))
        assert time.monotonic() < deadline
    return outputs


@pytest.mark.slow(6)
@pytest.mark.parametrize("how", CAUSES)
def test_an_instance_that_is_restarted_is_marked_and_the_other_goes_on(how: str, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("INSTANCES", instances.configure(tmp_path, 1, how, "step"))
    environment = make([VECTOR] * 2, restart=True)
    environment.reset()
    outputs = play_until_back(environment)
    steps = np.array([output.observation[:, 0] for output in outputs])
    lengths = np.array([output.episode_length for output in outputs])
    (failed,) = np.flatnonzero(steps[-1] != len(outputs))
    down = np.flatnonzero(lengths[:, failed] == -1)
    assert down.tolist() == list(range(2, len(outputs) - 2))  # From the third step, which fails, to the restart.
    assert steps[:, failed].tolist() == [1, 2, *[0] * len(down), 1, 2]
    assert steps[:, 1 - failed].tolist() == list(range(1, len(outputs) + 1)) and not lengths[:, 1 - failed].any()
    assert len(down) >= 50  # The other went on at its own speed until the restart, which takes a second or so.
    for output in outputs:
        np.testing.assert_array_equal(output.truncated, output.episode_length == -1)
        assert not output.terminated.any()
    first, second = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert first == f"{VECTOR} failed ({CAUSES[how]}); starting it again in 0.5 s"
    assert second == f"{VECTOR} has been started again"
    environment.close()
    assert len(list(tmp_path.iterdir())) == 3 and all_ended(tmp_path)


def test_an_instance_that_fails_to_start_at_first_is_marked(tmp_path: pathlib.Path, monkeypatch):
    monkeypatch.setenv("INSTANCES", instances.configure(tmp_path, 0, "exit", "reset"))
    environment = make([VECTOR], restart=True)
    assert environment.reset().episode_length == [-1]
    assert [output.observation[0, 0] for output in play_until_back(environment)[-3:]] == [0, 1, 2]
    environment.close()
    assert len(list(tmp_path.iterdir())) == 2 and all_ended(tmp_path)


def test_an_instance_that_dies_between_two_steps_is_marked_in_the_next(tmp_path: pathlib.Path, monkeypatch):
    monkeypatch.setenv("INSTANCES", instances.configure(tmp_path))
    environment = make([VECTOR], restart=True)
    play(environment, 2)
    (process,) = (int(file.read_text().split()[0]) for file in tmp_path.iterdir())
    os.kill(process, signal.SIGKILL)
    assert environment.step(np.ones(1)).episode_length == [-1]
    assert [output.observation[0, 0] for output in play_until_back(environment)[-3:]] == [0, 1, 2]
    environment.close()
    assert all_ended(tmp_path)


def test_a_user_error_is_the_same_as_in_one_process():
    environment = make(["gymnasium/CartPol-v1"], restart=True)
    with pytest.raises(UserError, match=r"unknown Gymnasium id 'CartPol-v1'. Did you mean gymnasium/CartPole-v1"):
        environment.reset()


def test_tasks_that_look_different_cannot_share_a_network():
    environment = make(["counting", "catch"], environments.spec("counting"), restart=True)
    with pytest.raises(UserError, match=r"^catch cannot share one network .* observation is float32 \[10, 5\], theirs"):
        environment.reset()


def test_nothing_is_left_where_a_process_cannot_be_started(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("INSTANCES", instances.configure(tmp_path))
    started: list[Child] = []

    def start(*args, **options) -> Child:
        if len(started) == 2:
            raise UserError("no more processes")
        started.append(Child(*args, **options))
        return started[-1]

    monkeypatch.setattr(pool, "Child", start)
    with pytest.raises(UserError, match="no more processes"):
        make([VECTOR] * 3).reset()
    assert len(started) == 2 and all(child.status is not None for child in started)

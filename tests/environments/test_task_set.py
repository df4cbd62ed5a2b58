"""The tasks of a run: settings are resolved once, and actors get the environments of their tasks."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import pickle
import signal
import sys
import time

import numpy as np
import pytest

sys.path.append(str(pathlib.Path(__file__).parent))  # Processes get it from here, too.

import instances

from impala_tf import environments
from impala_tf.config import EnvironmentConfig
from impala_tf.environments import task_set
from impala_tf.environments.base import EnvironmentFailed
from impala_tf.environments.catch import CatchEnvironment
from impala_tf.environments.multi_task import MultiTaskEnvironment
from impala_tf.environments.remote.lockstep import Lockstep
from impala_tf.errors import UserError

VECTOR = "gymnasium/instances:Vector-v0"


def test_one_task():
    tasks = task_set.resolve(EnvironmentConfig(env="catch", env_deadline=7.0))
    assert (tasks.names, tasks.spec, tasks.own_processes, tasks.deadline) == (
        ("catch",),
        CatchEnvironment.spec,
        False,
        7.0,
    )
    assert not tasks.options["full_action_set"] and pickle.loads(pickle.dumps(tasks)) == tasks
    assert environments.make("catch", 1, 0, **tasks.options).spec == tasks.spec


def test_several_games_have_all_actions():
    one, two = (task_set.resolve(EnvironmentConfig(env=env)) for env in ("atari/pong", "atari/pong,atari/breakout"))
    assert two.names == ("atari/pong", "atari/breakout")
    assert (one.options["full_action_set"], one.spec.num_actions) == (False, 6)
    assert (two.options["full_action_set"], two.spec.num_actions) == (True, 18)
    assert task_set.resolve(EnvironmentConfig(env="atari/pong", full_action_set=True)).spec.num_actions == 18


@pytest.mark.parametrize(
    "env, message",
    [
        ("catch,atari/brekout", r"did you mean atari/breakout\?"),  # Not only the first.
        ("catch,cach", r"unknown environment 'cach': did you mean catch\?"),
        ("catch,catch", "catch more than once"),
        ("catch,", "names no environment"),
    ],
)
def test_wrong_settings(env: str, message: str):
    with pytest.raises(UserError, match=message):
        task_set.check(task_set.resolve(EnvironmentConfig(env=env)))


@pytest.mark.usefixtures("deepmind_lab")
@pytest.mark.parametrize(
    "env, message",
    [
        ("dmlab/rooms_watermaze,atari/pong", r"atari/pong cannot share .*: its observation is uint8 \[84, 84, 4\], "),
        ("catch,counting", "counting cannot share"),
        (f"{VECTOR},gymnasium/CartPole-v1", r"CartPole-v1 cannot share .* \[4\], theirs float32 \[2\]"),
    ],
)
@pytest.mark.parametrize("choice", ["auto", "on"])
def test_tasks_that_look_different_are_refused_before_the_start(env: str, message: str, choice: str):
    tasks = task_set.resolve(EnvironmentConfig(env=env, env_processes=choice))
    with pytest.raises(UserError, match=message):
        task_set.check(tasks)


def test_of_a_family_whose_environments_look_alike_only_one_is_made(monkeypatch: pytest.MonkeyPatch):
    made, spec = [], environments.spec
    monkeypatch.setattr(environments, "spec", lambda name, **options: made.append(name) or spec(name, **options))
    task_set.check(task_set.resolve(EnvironmentConfig(env="atari57")))
    assert len(made) == 1


@pytest.mark.usefixtures("deepmind_lab")
@pytest.mark.parametrize(
    "env, choice, own_processes",
    [
        ("catch", "auto", False),
        ("catch", "on", True),
        ("dmlab/rooms_watermaze", "auto", True),
        ("dmlab/rooms_watermaze", "off", False),
        ("catch,dmlab/rooms_watermaze", "auto", True),
    ],
)
def test_which_environments_have_processes_of_their_own(env: str, choice: str, own_processes: bool):
    assert task_set.resolve(EnvironmentConfig(env=env, env_processes=choice)).own_processes is own_processes


def test_a_batch_of_one_task_is_that_environment():
    tasks = task_set.resolve(EnvironmentConfig(env="atari/pong", max_frames_per_episode=8))
    batch = task_set.make_batch(tasks, np.zeros(2, np.int32), seed=3, threads=1)
    alone = environments.make("atari/pong", 2, 3, max_frames_per_episode=8)
    np.testing.assert_equal(batch.reset(), alone.reset())
    for _ in range(3):
        np.testing.assert_equal(batch.step(np.zeros(2)), alone.step(np.zeros(2)))


def test_a_batch_of_several_tasks(monkeypatch: pytest.MonkeyPatch):
    made = []
    make = environments.make

    def recorded(name, num_envs, seed, **options):
        made.append((name, num_envs, seed, options["env_threads"]))
        return make(name, num_envs, seed, **options)

    tasks = task_set.resolve(EnvironmentConfig(env="atari/pong,atari/breakout,atari/boxing"))
    monkeypatch.setattr(environments, "make", recorded)
    for seed in (3, 4):
        batch = task_set.make_batch(tasks, np.array([0, 2, 2]), seed, threads=2)
        assert isinstance(batch, MultiTaskEnvironment) and batch.spec == tasks.spec and batch.num_envs == 3
        batch.close()
    assert [(name, count, threads) for name, count, _, threads in made] == [
        ("atari/pong", 1, 1),
        ("atari/boxing", 2, 2),
    ] * 2
    assert len({seed for _, _, seed, _ in made}) == 4


def test_a_batch_of_processes_restarts_what_fails(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    tasks = task_set.resolve(EnvironmentConfig(env=VECTOR, env_processes="on", env_deadline=30.0))
    tasks = dataclasses.replace(tasks, names=(VECTOR, VECTOR))
    monkeypatch.setenv("INSTANCES", instances.configure(tmp_path))
    with contextlib.closing(task_set.make_batch(tasks, np.array([0, 1, 1]), seed=0, threads=1)) as batch:
        assert isinstance(batch, Lockstep) and batch.num_envs == 3
        batch.reset()
        processes = [int(file.read_text().split()[0]) for file in tmp_path.iterdir()]
        os.kill(processes[0], signal.SIGKILL)
        assert sorted(batch.step(np.zeros(3)).episode_length) == [-1, 0, 0]
        _step_until_back(batch)
    assert instances.all_ended(tmp_path)


def _step_until_back(batch: Lockstep) -> None:
    end = time.monotonic() + 60
    while batch.step(np.zeros(batch.num_envs)).episode_length.any():
        assert time.monotonic() < end


def test_an_environment_that_hangs_may_be_restarted_before_the_batch_gives_up(tmp_path: pathlib.Path, monkeypatch):
    tasks = task_set.resolve(EnvironmentConfig(env=VECTOR, env_processes="on", env_deadline=2.0))
    monkeypatch.setenv("INSTANCES", instances.configure(tmp_path, 0, "hang", "step"))
    with contextlib.closing(task_set.make_batch(tasks, np.zeros(1, np.int32), seed=0, threads=1)) as batch:
        batch.reset()
        assert [batch.step(np.zeros(1)).episode_length[0] for _ in range(3)] == [0, 0, -1]
        _step_until_back(batch)
    with pytest.raises(EnvironmentFailed, match="closed"):
        batch.receive()


def test_a_pool_plays_the_tasks_it_is_given(monkeypatch: pytest.MonkeyPatch):
    tasks = task_set.TaskSet(("counting", "catch"), {"a": 1}, CatchEnvironment.spec, True, 5.0)
    made = []
    monkeypatch.setattr(task_set, "WorkerPool", lambda *args, **options: made.append((*args, options)))
    task_set.make_pool(tasks, [1, 0, 1], seed=9, threads=3)
    envs = ["catch", "counting", "catch"]
    assert made == [(CatchEnvironment.spec, envs, {"a": 1}, 9, 5.0, {"starts_at_once": 3})]

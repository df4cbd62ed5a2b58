"""Who there is in a run: defaults from the machine's cores, from what the learner told, and from the flags."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from impala_tf import config as config_lib
from impala_tf import machine, topology
from impala_tf.environments import task_set
from impala_tf.errors import UserError
from impala_tf.topology import Topology

CORES = machine.cores()


def _resolve(num_tasks=1, *, own_processes=False, told=None, **values) -> Topology:
    config, alone = config_lib.from_values(values), topology.alone("localhost:1")
    return topology.resolve(config, num_tasks, alone, own_processes=own_processes, told=told)


def test_flags_come_first():
    found = _resolve(num_actors=5, envs_per_actor=7, learner_threads=3, env_threads=4)
    assert found == Topology(topology.alone("localhost:1"), 5, 7, 1, 4, 3)


def test_there_is_an_actor_for_every_core_by_default():
    found = _resolve()
    assert found.num_actors == CORES >= 1
    assert found.learner_threads == max(1, CORES // 2)


def test_many_actors_get_fewer_environments_each():
    actors = (0, 1, 2, 3, 4, 32, 50, 1000)
    assert [_resolve(num_actors=n).envs_per_actor for n in actors] == [12, 24, 24, 16, 12, 12, 10, 8]
    assert [_resolve(num_actors=2, batch_size=size).envs_per_actor for size in (8, 16, 24, 64)] == [12, 12, 18, 24]
    assert _resolve(num_actors=4, num_learners=2).envs_per_actor == 24
    assert _resolve(num_actors=2, replay_fraction=0.5).envs_per_actor == 12  # 16 fresh unrolls.
    assert _resolve(num_actors=2, own_processes=True).envs_per_actor == 12


def test_a_worker_of_a3c_has_one_environment():
    assert [_resolve(num_actors=n, architecture="a3c").envs_per_actor for n in (1, 1000)] == [1, 1]
    assert _resolve(num_actors=2, architecture="a3c", envs_per_actor=5).envs_per_actor == 5
    assert _resolve(6, num_actors=4, architecture="a3c").envs_per_actor == 3  # So that tasks share evenly.


def test_actors_share_the_cores_for_their_environments():
    assert [_resolve(num_actors=n).env_threads for n in (0, 1, CORES, 1000)] == [CORES, CORES, 1, 1]
    assert _resolve(env_threads=3).env_threads == 3


def test_it_is_a_value():
    found = _resolve(num_actors=2)
    assert pickle.loads(pickle.dumps(found)) == found
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.num_actors = 3
    assert json.loads(json.dumps(found.told())) == {"num_actors": 2, "envs_per_actor": 24}


def _shares(found: Topology) -> np.ndarray:
    """How many environments each task has, over all actors."""
    by_actor = [found.task_ids(actor) for actor in range(max(found.num_actors, 1))]
    for ids in by_actor:
        assert ids.dtype == np.int32 and len(ids) == found.envs_per_actor and (np.diff(ids) >= 0).all()
    shares = np.bincount(np.concatenate(by_actor), minlength=found.num_tasks)
    assert len(shares) == found.num_tasks
    return shares


@pytest.mark.parametrize("num_tasks", [1, 2, 3, 5, 8, 30, 57])
@pytest.mark.parametrize("num_actors", range(1, 14))
def test_by_default_tasks_share_the_environments_of_any_number_of_actors_evenly(num_actors, num_tasks):
    shares = _shares(_resolve(num_tasks, num_actors=num_actors))
    assert shares.min() == shares.max() >= 1


@given(num_actors=st.integers(0, 40), num_tasks=st.integers(1, 60))
def test_tasks_share_the_environments_evenly_whatever_the_number_of_actors(num_actors, num_tasks):
    shares = _shares(_resolve(num_tasks, num_actors=num_actors))
    assert shares.min() == shares.max() >= 1


@given(num_actors=st.integers(1, 13), num_tasks=st.integers(1, 60), data=st.data())
def test_actors_started_by_hand_share_the_tasks_as_the_learner_says(num_actors, num_tasks, data):
    """Each resolves for itself, on a machine of its own."""
    learner = _resolve(num_tasks, role="learner", num_actors=num_actors)
    told = json.loads(json.dumps(learner.told()))
    actors = [_resolve(num_tasks, role="actor", told=told) for _ in range(num_actors)]
    assert {(actor.num_actors, actor.envs_per_actor) for actor in actors} == {(num_actors, learner.envs_per_actor)}
    shares = np.bincount(np.concatenate([a.task_ids(i) for i, a in enumerate(actors)]), minlength=num_tasks)
    assert shares.min() == shares.max() >= 1


@given(envs_per_actor=st.integers(1, 30), num_tasks=st.integers(1, 60))
def test_actors_started_by_hand_take_up_where_the_one_before_ends(envs_per_actor, num_tasks):
    found = _resolve(num_tasks, role="actor", envs_per_actor=envs_per_actor)
    for actors in (1, 2, 5):
        shares = np.bincount(np.concatenate([found.task_ids(i) for i in range(actors)]), minlength=num_tasks)
        assert shares.max() - shares.min() <= 1


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, (17, 9)),
        ({"num_actors": 3}, (3, 9)),
        ({"envs_per_actor": 5}, (17, 5)),
        ({"num_actors": 3, "envs_per_actor": 5}, (3, 5)),
    ],
)
def test_an_actor_started_by_hand_takes_from_the_learner_what_its_flags_leave_open(flags, expected):
    found = _resolve(3, role="actor", told={"num_actors": 17, "envs_per_actor": 9}, **flags)
    assert (found.num_actors, found.envs_per_actor) == expected


def test_an_actor_started_by_hand_has_one_environment_thread_unless_its_flags_say_how_many_actors_there_are():
    told = {"num_actors": 1, "envs_per_actor": 9}  # Of another machine.
    assert _resolve(role="actor", told=told).env_threads == 1
    assert _resolve(role="actor", told=told, num_actors=1).env_threads == CORES


def test_shares_that_cannot_be_even_are_told():
    with pytest.raises(UserError, match=r"--envs_per_actor=3: 2 tasks .* 1 actors evenly; use a multiple of 2"):
        _resolve(2, num_actors=1, envs_per_actor=3)
    assert _resolve(2, num_actors=2, envs_per_actor=3).envs_per_actor == 3
    _resolve(2, num_actors=1, envs_per_actor=3, role="learner")  # Who knows how many actors will come.


@given(num_actors=st.integers(1, 20), num_tasks=st.integers(1, 30), envs_per_actor=st.integers(1, 30))
def test_only_uneven_shares_are_refused(num_actors, num_tasks, envs_per_actor):
    flags = {"num_actors": num_actors, "envs_per_actor": envs_per_actor}
    if num_actors * envs_per_actor % num_tasks == 0:
        shares = _shares(_resolve(num_tasks, **flags))
        assert shares.min() == shares.max()
    else:
        multiple = num_tasks // math.gcd(num_tasks, num_actors)
        with pytest.raises(UserError, match=f"multiple of {multiple}\\."):
            _resolve(num_tasks, **flags)
        _resolve(num_tasks, **{**flags, "envs_per_actor": multiple})


def test_games_that_share_a_network_have_all_actions():
    config = config_lib.from_values({"env": "atari/pong,atari/skiing", "num_actors": 1, "envs_per_actor": 2})
    tasks = task_set.resolve(config.environment)
    assert tasks.spec.num_actions == 18
    found = topology.resolve(config, len(tasks.names), topology.alone("localhost:1"))
    environment = task_set.make_batch(tasks, found.task_ids(0), seed=0, threads=found.env_threads)
    assert (environment.spec.num_actions, environment.task_ids.tolist()) == (18, [0, 1])
    environment.close()
    assert task_set.resolve(config_lib.from_values({"env": "atari/pong"}).environment).spec.num_actions == 6


def test_a_misspelt_game_among_many_is_told():
    with pytest.raises(UserError, match="did you mean atari/breakout"):
        config = config_lib.from_values({"env": "atari/pong,atari/brekout", "num_actors": 1})
        task_set.check(task_set.resolve(config.environment))


LAGGED = {"policy_lag": 0, "batch_size": 12}


def test_where_an_update_takes_one_unroll_of_each_environment_their_number_follows(monkeypatch):
    assert _resolve(**LAGGED, num_actors=3).envs_per_actor == 4
    assert _resolve(**LAGGED, num_actors=0).envs_per_actor == 12
    assert _resolve(architecture="batched_a2c_sync_step", batch_size=9, num_actors=3).envs_per_actor == 3
    monkeypatch.setattr(topology, "cores", lambda: 5)
    assert (_resolve(**LAGGED).num_actors, _resolve(**LAGGED).envs_per_actor) == (4, 3)
    assert _resolve(batch_size=12).num_actors == 5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"num_actors": 5},
            r"^12 unrolls .* set --batch_size to 10 \(5 .* 2 .* each\), or --num_actors to 3 or 4 or 6\.",
        ),
        (
            {"num_actors": 3, "envs_per_actor": 2},
            "set --batch_size to 6 .*, or --envs_per_actor to 4, or --num_actors to 6\\.",
        ),
        ({"num_actors": 0, "envs_per_actor": 7}, r"set --batch_size to 7 \(1 .*\), or --envs_per_actor to 12\."),
        ({"num_tasks": 5}, "--batch_size=12: 5 tasks cannot share its 12 unrolls .* a multiple of 5"),
        ({"num_tasks": 2, "batch_size": 5, "num_actors": 2}, "2 tasks cannot share its 5 unrolls .* a multiple of 2"),
        ({"num_tasks": 3, "num_actors": 5}, r"do not fit: set --num_actors to 3 or 4 or 6\."),
        (
            {"batch_size": 8, "replay_fraction": 0.25, "num_actors": 4},
            r"^6 fresh unrolls .* do not fit: set --num_actors to 2 or 3 or 6\.",
        ),
        ({"num_actors": 13}, r"set --batch_size to 156 \(13 .* 12 .*\), or --num_actors to 4 or 6 or 12\."),
    ],
)
def test_numbers_of_environments_that_do_not_fit_are_told_with_some_that_do(values, message):
    with pytest.raises(UserError, match=message):
        _resolve(**{**LAGGED, **values})

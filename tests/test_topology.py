"""Defaults from the machine's cores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from impala_tf import config as config_lib
from impala_tf.errors import UserError
from impala_tf import topology as layout


def test_flags_come_first():
    config = config_lib.from_values({"num_actors": 5, "envs_per_actor": 7, "learner_threads": 3})
    assert (layout.num_actors(config), layout.envs_per_actor(config), layout.learner_threads(config)) == (5, 7, 3)


def test_there_is_an_actor_for_every_core_by_default():
    assert layout.num_actors(config_lib.Config()) == layout.cores() >= 1
    assert layout.learner_threads(config_lib.Config()) >= 1


def test_many_actors_get_fewer_environments_each():
    counts = [layout.envs_per_actor(config_lib.from_values({"num_actors": n})) for n in (0, 1, 32, 50, 1000)]
    assert counts == [12, 12, 12, 10, 8]


def test_actors_share_the_cores_for_their_environments():
    counts = [layout.env_threads(config_lib.from_values({"num_actors": n})) for n in (0, 1, layout.cores(), 1000)]
    assert counts == [layout.cores(), layout.cores(), 1, 1]
    assert layout.env_threads(config_lib.from_values({"env_threads": 3})) == 3


@given(num_actors=st.integers(1, 40), num_tasks=st.integers(1, 60))
def test_tasks_share_the_environments_evenly_whatever_the_number_of_actors(num_actors, num_tasks):
    env = ",".join(f"gymnasium/Task-v{i}" for i in range(num_tasks))
    config = config_lib.from_values({"env": env, "num_actors": num_actors})
    by_actor = [layout.task_ids(config, actor) for actor in range(num_actors)]
    assert {len(ids) for ids in by_actor} == {layout.envs_per_actor(config)}
    assert all((np.diff(ids) >= 0).all() for ids in by_actor)
    shares = np.bincount(np.concatenate(by_actor), minlength=num_tasks)
    assert len(shares) == num_tasks and shares.min() == shares.max() >= 1


@given(envs_per_actor=st.integers(1, 30), num_tasks=st.integers(1, 60))
def test_actors_started_by_hand_take_up_where_the_one_before_ends(envs_per_actor, num_tasks):
    env = ",".join(f"gymnasium/Task-v{i}" for i in range(num_tasks))
    config = config_lib.from_values({"env": env, "role": "actor", "envs_per_actor": envs_per_actor})
    for actors in (1, 2, 5):
        shares = np.bincount(np.concatenate([layout.task_ids(config, i) for i in range(actors)]), minlength=num_tasks)
        assert shares.max() - shares.min() <= 1


def test_shares_that_cannot_be_even_are_told():
    config = config_lib.from_values({"env": "catch,counting", "num_actors": 1, "envs_per_actor": 3})
    with pytest.raises(UserError, match=r"--envs_per_actor=3: 2 tasks .* use a multiple of 2"):
        layout.check(config)


def test_games_that_share_a_network_have_all_actions():
    config = config_lib.from_values({"env": "atari/pong,atari/skiing", "num_actors": 1, "envs_per_actor": 2})
    assert layout.environment_spec(config).num_actions == 18
    environment = layout.make_environments(config, seed=0, warn=print)
    assert (environment.spec.num_actions, environment.task_ids.tolist()) == (18, [0, 1])
    assert layout.environment_spec(config_lib.from_values({"env": "atari/pong"})).num_actions == 6


def test_a_misspelt_game_among_many_is_told():
    with pytest.raises(UserError, match="did you mean atari/breakout"):
        layout.check(config_lib.from_values({"env": "atari/pong,atari/brekout", "num_actors": 1}))

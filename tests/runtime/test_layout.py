"""Defaults from the machine's cores."""

from impala_tf import config as config_lib
from impala_tf.runtime import layout


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

"""How often each task is played where the actors have different ones."""

from __future__ import annotations

import numpy as np

from impala_tf import config as config_lib
from impala_tf import topology
from impala_tf.acting.actor import Actor
from impala_tf.environments.counting import CountingEnvironment
from impala_tf.environments.multi_task import MultiTaskEnvironment
from impala_tf.networks.agent import Agent
from impala_tf.suites.tasks import names


def test_while_actors_are_equally_fast_each_of_57_games_gets_as_many_unrolls():
    """Three actors with 19 games each. Within an actor it holds at any speed."""
    games = names("atari57")
    config = config_lib.from_values({"num_actors": 3})
    resolved = topology.resolve(config, len(games), topology.alone("localhost:1"))
    unrolls = np.zeros(len(games), int)

    def write(unroll):
        unrolls[unroll.task_id] += 1

    for number in range(3):
        ids = resolved.task_ids(number)
        environment = MultiTaskEnvironment(
            CountingEnvironment.spec, games, ids, lambda task, num_envs, restarts: CountingEnvironment(num_envs, task)
        )
        actor = Actor(environment, Agent(environment.spec, torso="mlp"), write, lambda: 0, 2, 1, ids)
        for rounds in (1, 2):
            actor.run_unroll()
            assert unrolls[ids].tolist() == [rounds] * 19
    assert unrolls.tolist() == [2] * 57

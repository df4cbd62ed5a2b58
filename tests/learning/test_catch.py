"""Every correction and estimate of Q learns catch, on-policy: actor and learner by turns, without anything between."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import config as config_lib
from impala_tf.acting.actor import Actor
from impala_tf.environments.catch import CatchEnvironment
from impala_tf.learning.learner import Learner
from impala_tf.networks.agent import Agent
from impala_tf.structures import Batch, Trajectory

B, T = 16, 10
# The values of --setup=catch, except that small batches and a higher learning rate take less time.
SETTINGS = {"env": "catch", "batch_size": B, "unroll_length": T, "learning_rate": 0.01, "total_frames": 300_000}
FRAMES = 80_000  # About 25,000 are needed.
EPISODES = 300


def time_major(unrolls: list[Trajectory]) -> Trajectory:
    """Stacks B unrolls [T + 1, ...] of a feed-forward agent to [T + 1, B, ...]."""
    task_id = np.stack([unroll.task_id for unroll in unrolls])
    stacked = (np.stack(field, axis=1) for field in zip(*(unroll[:-2] for unroll in unrolls)))
    return Trajectory(*map(tf.constant, stacked), core_state=(), task_id=tf.constant(task_id))


@pytest.mark.parametrize(
    ("correction", "q_estimate"),
    [
        ("v_trace", "v_trace"),
        ("one_step", "v_trace"),
        ("epsilon", "v_trace"),
        ("none", "v_trace"),
        ("v_trace", "value"),
        ("none", "value"),
    ],
)
def test_catch_is_learned(correction, q_estimate):
    """Random play returns about -0.6 and perfect play 1."""
    config = config_lib.from_values({**SETTINGS, "correction": correction, "q_estimate": q_estimate})
    environment = CatchEnvironment(B, seed=1)
    agent = Agent(environment.spec, torso="mlp", seed=1)
    learner = Learner(agent, config, environment.spec.frames_per_step)
    unrolls, returns = [], []

    def write(unroll: Trajectory) -> None:
        unrolls.append(tf.nest.map_structure(np.copy, unroll))

    # Both use the same variables, so that there is nothing to refresh and the policy lag is 0.
    actor = Actor(environment, agent, write, lambda: int(learner.step_count), T, seed=1)
    while learner.frames < FRAMES:
        actor.run_unroll()
        batch = time_major(unrolls)
        unrolls.clear()
        returns.extend(batch.episode_return[1:][batch.episode_length[1:] > 0].numpy())
        metrics = learner.step(Batch(batch, fresh=tf.fill([B], True)))
        if np.mean(returns[-EPISODES:]) >= 0.9:
            break
    assert np.mean(returns[:100]) < 0 and np.mean(returns[-EPISODES:]) >= 0.9
    assert learner.refused == 0
    assert float(metrics["rho"]) == pytest.approx(1, abs=1e-4)  # On-policy.

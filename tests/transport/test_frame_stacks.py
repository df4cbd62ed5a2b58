"""Stacks of frames that were packed, sent and unpacked are the environment's own."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from impala_tf import environments
from impala_tf.acting.actor import Actor
from impala_tf.config import DataConfig
from impala_tf.networks.agent import Agent
from impala_tf.structures import ArraySpec, EnvironmentSpec
from impala_tf.transport import frame_stacks as frames
from impala_tf.transport.actor_end import ActorEnd
from impala_tf.transport.learner_end import LearnerEnd
from impala_tf.transport.signatures import trajectory_signature, unroll_signature


@settings(deadline=None, max_examples=50)
@given(st.data(), st.integers(1, 3), st.integers(1, 9))
def test_stacks_are_rebuilt(data, batch_size, unroll_length):
    """Against stacks made one by one, with games that begin anywhere."""
    shape = (batch_size, unroll_length + 4, 2, 3)
    pictures = data.draw(st_numpy.arrays(np.uint8, shape))
    begins = data.draw(st_numpy.arrays(np.bool_, (batch_size, unroll_length + 1)))
    stacks = np.zeros((unroll_length + 1, batch_size, 2, 3, 4), np.uint8)
    for b in range(batch_size):
        history = list(pictures[b, :4])
        stacks[0, b] = np.stack(history, -1)
        for t in range(1, unroll_length + 1):
            if begins[b, t]:
                history = [np.zeros((2, 3), np.uint8)] * 4
            history = [*history[1:], pictures[b, t + 3]]
            stacks[t, b] = np.stack(history, -1)
    packed = frames.Frames(tf.constant(stacks[0]), tf.constant(np.moveaxis(stacks[1:, ..., -1], 0, 1)))
    rebuilt = frames.unpack(packed, tf.constant(begins.astype(np.int32) * 7))
    np.testing.assert_array_equal(rebuilt, stacks)


def test_only_stacks_of_four_are_packed():
    spec = EnvironmentSpec(ArraySpec((84, 84, 3), np.dtype(np.uint8)), 4, 4, frame_stack=True)
    with pytest.raises(ValueError, match="4"):
        unroll_signature(spec, (), 5)


def test_ten_thousand_steps_through_reverb():
    """Bit for bit, across life losses, the ends of games, time limits and unrolls; the agent plays at random."""
    num_envs, unroll_length, batch_size, unrolls = 16, 20, 8, 32  # 10,240 steps.
    environment = environments.make("atari/breakout", num_envs, seed=5, max_frames_per_episode=1500)
    agent = Agent(environment.spec, torso="mlp", seed=1)
    layout = (environment.spec, agent.core_state_spec, unroll_length)
    variables = agent.trainable_variables
    written, lives, games = [], 0, 0
    with LearnerEnd(DataConfig(batch_size=batch_size), unroll_signature(*layout), variables) as learner_end:
        learner_end.publish(0)
        with ActorEnd(learner_end.address, *layout, variables, timeout=10) as actor_end:

            def write(unroll):
                written.append(unroll.observation.copy())
                actor_end.writer.write(unroll)

            actor = Actor(environment, agent, write, lambda: 0, unroll_length, seed=3)
            for _ in range(unrolls):
                actor.run_unroll()
                for _ in range(num_envs // batch_size):
                    batch = learner_end.next_batch(timeout=30).unrolls
                    expected = np.stack([written.pop(0) for _ in range(batch_size)], axis=1)
                    np.testing.assert_array_equal(batch.observation, expected)
                    assert batch.observation.shape[1:] == (batch_size, 84, 84, 4)
                    games += np.count_nonzero(batch.episode_length[1:])
                    lives += np.count_nonzero(batch.terminated[1:] & (batch.episode_length[1:] == 0))
                assert actor_end.writer.flush(timeout=10)
    environment.close()
    assert games > 10
    assert lives > 10


def test_the_learner_sees_what_it_would_without_packing():
    spec = environments.spec("atari/pong")
    assert trajectory_signature(spec, (), 20).observation.shape == (21, 84, 84, 4)
    packed = unroll_signature(spec, (), 20).observation
    assert sum(np.prod(part.shape) for part in packed) == (20 + 4) * 84 * 84

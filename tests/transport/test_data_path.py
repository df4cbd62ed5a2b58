"""The data path through a real Reverb server, proved by the counting environment."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import environments
from impala_tf.acting.actor import Actor
from impala_tf.config import DataConfig
from impala_tf.environments.counting import TornUnroll, check_unroll
from impala_tf.networks.agent import Agent
from impala_tf.structures import AgentInput
from impala_tf.transport.actor_end import ActorEnd
from impala_tf.transport.learner_end import LearnerEnd
from impala_tf.transport.signatures import unroll_signature

NUM_ENVS, UNROLL_LENGTH, BATCH, UNROLLS = 3, 7, 6, 8
TASK_IDS = np.array([5, 0, 7], np.int32)


def _collect(env_id, core):
    """(agent, batches): 8 unrolls of 3 environments, time-major, as a learner gets them."""
    environment = environments.make(env_id, NUM_ENVS, seed=1)
    agent = Agent(environment.spec, torso="mlp", core=core, seed=1)
    # A new policy hardly depends on what it sees; and on the large numbers that the counting environment shows, any
    # policy would always do the same.
    for variable in agent.trainable_variables:
        variable.assign(variable * (0.0 if env_id == "counting" else 10.0))
    layout = (environment.spec, agent.core_state_spec, UNROLL_LENGTH)
    variables = agent.trainable_variables
    steps = iter(range(10, 10 + UNROLLS))
    with LearnerEnd(DataConfig(batch_size=BATCH), unroll_signature(*layout), variables) as learner_end:
        learner_end.publish(0)
        with ActorEnd(learner_end.address, *layout, variables, timeout=10) as actor_end:
            write = actor_end.writer.write
            actor = Actor(environment, agent, write, lambda: next(steps), UNROLL_LENGTH, seed=3, task_ids=TASK_IDS)
            for _ in range(UNROLLS):
                assert actor.run_unroll() == NUM_ENVS
            assert actor_end.writer.flush(timeout=10)
            batches = [learner_end.next_batch(timeout=10) for _ in range(NUM_ENVS * UNROLLS // BATCH)]
    assert all(batch is not None for batch in batches)
    for batch in batches:  # A FIFO table gives each unroll out once.
        np.testing.assert_array_equal(batch.fresh, [True] * BATCH)
    return agent, [batch.unrolls for batch in batches]


@pytest.fixture(scope="module", params=["none", "lstm"])
def counted(request):
    return _collect("counting", request.param)


@pytest.fixture(scope="module", params=["none", "lstm"])
def played(request):
    return _collect("catch", request.param)


def _unrolls(batches):
    """{instance id: [its unrolls in the order of arrival]}, numpy, without core state and task id."""
    by_instance: dict[int, list] = {}
    for batch in batches:
        per_step = batch._replace(core_state=(), task_id=())
        for b in range(BATCH):
            unroll = tf.nest.map_structure(lambda x: x.numpy()[:, b], per_step)  # noqa: B023
            by_instance.setdefault(int(unroll.observation[0, 0]), []).append(unroll)
    return by_instance


def test_batches_are_time_major_with_the_documented_shapes_and_types(counted):
    agent, batches = counted
    batch = batches[0]
    assert batch.observation.shape == (UNROLL_LENGTH + 1, BATCH, 4)
    assert batch.observation.dtype == tf.int32
    assert batch.behaviour_logits.shape == (UNROLL_LENGTH + 1, BATCH, 8)
    for name, dtype in [
        ("reward", tf.float32),
        ("terminated", tf.bool),
        ("truncated", tf.bool),
        ("episode_return", tf.float32),
        ("episode_length", tf.int32),
        ("action", tf.int32),
        ("learner_step", tf.int64),
    ]:
        assert getattr(batch, name).shape == (UNROLL_LENGTH + 1, BATCH)
        assert getattr(batch, name).dtype == dtype
    instance = batch.observation[0, :, 0].numpy()
    np.testing.assert_array_equal(batch.task_id, TASK_IDS[instance - instance.min()])
    for state, spec in zip(tf.nest.flatten(batch.core_state), agent.core_state_spec):
        assert state.shape == (BATCH, *spec.shape)


def test_every_unroll_is_whole_and_aligned(counted):
    unrolls = [u for per_instance in _unrolls(counted[1]).values() for u in per_instance]
    assert len(unrolls) == NUM_ENVS * UNROLLS
    for u in unrolls:
        check_unroll(u.observation, u.action, u.reward, u.terminated, u.truncated)
    assert any(u.terminated.any() for u in unrolls)
    assert any(u.truncated.any() for u in unrolls)


def test_the_checker_sees_a_shifted_column(counted):
    u = next(iter(_unrolls(counted[1]).values()))[1]
    with pytest.raises(TornUnroll):
        check_unroll(u.observation, np.roll(u.action, 1), u.reward, u.terminated, u.truncated)


def test_consecutive_unrolls_overlap_by_one_entry(counted):
    for unrolls in _unrolls(counted[1]).values():
        assert len(unrolls) == UNROLLS
        for earlier, later in itertools.pairwise(unrolls):
            for name in earlier._fields:
                if name not in ("core_state", "task_id"):
                    np.testing.assert_array_equal(getattr(earlier, name)[-1], getattr(later, name)[0], err_msg=name)


def test_actions_logits_and_observations_belong_together(played):
    """The stored logits at entry t + 1 are the network's answer to observation t, recomputed from the unroll alone.

    With a recurrent core that also needs the stored core state to be the one before the first observation, and resets
    at the episode ends inside the unroll.
    """
    agent, batches = played
    for batch in batches:
        start = tf.logical_or(batch.terminated, batch.truncated)
        output, _ = agent.unroll(AgentInput(batch.observation, batch.reward, batch.action, start), batch.core_state)
        logits = batch.behaviour_logits.numpy()
        np.testing.assert_allclose(output.logits[:-1], logits[1:], rtol=1e-4, atol=1e-5)
        assert np.abs(np.diff(logits[1:], axis=0)).max(axis=(0, 2)).min() > 1e-3  # A shift would be seen.


def test_every_entry_carries_the_learner_step_that_acted(counted):
    for unrolls in _unrolls(counted[1]).values():
        for k, u in enumerate(unrolls):
            np.testing.assert_array_equal(u.learner_step[1:], 10 + k)
            assert u.learner_step[0] == (10 + k - 1 if k else 0)


def test_finished_games_are_reported_once(counted):
    for unrolls in _unrolls(counted[1]).values():
        for u in unrolls:
            ended = (u.terminated | u.truncated)[1:]
            np.testing.assert_array_equal(u.episode_length[1:] > 0, ended)
        lengths = np.concatenate([u.episode_length[1:] for u in unrolls])
        rewards = np.concatenate([u.reward[1:] for u in unrolls])
        returns = np.concatenate([u.episode_return[1:] for u in unrolls])
        start = 0
        for end in np.flatnonzero(lengths):
            assert lengths[end] == end + 1 - start
            assert returns[end] == pytest.approx(rewards[start : end + 1].sum())
            start = end + 1

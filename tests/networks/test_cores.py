from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from impala_tf.errors import UserError
from impala_tf.networks.cores import FeedForwardCore, LSTMCore, make_core
from impala_tf.structures import ArraySpec

T, B, F, ACTIONS, UNITS = 6, 3, 5, 4, 7


def inputs(seed=0, starts=()):
    """Returns features, last_reward, last_action and episode_start; episodes start at `starts`, pairs (t, b)."""
    rng = np.random.default_rng(seed)
    episode_start = np.zeros((T, B), bool)
    for t, b in starts:
        episode_start[t, b] = True
    return (
        rng.normal(size=(T, B, F)).astype(np.float32),
        3 * rng.normal(size=(T, B)).astype(np.float32),
        rng.integers(0, ACTIONS, (T, B)).astype(np.int32),
        episode_start,
    )


def random_state(seed=1):
    rng = np.random.default_rng(seed)
    return tuple(tf.constant(rng.normal(size=(B, UNITS)), tf.float32) for _ in range(2))


@pytest.fixture(params=["loop", "packed"])
def core(request):
    return LSTMCore(F, ACTIONS, units=UNITS, seed=2, kernel=request.param)


def assert_close(a, b, atol=1e-6):
    tf.nest.assert_same_structure(a, b)
    for x, y in zip(tf.nest.flatten(a), tf.nest.flatten(b)):
        np.testing.assert_allclose(x, y, atol=atol)


def keras_unroll(core, features, last_reward, last_action, episode_start, state):
    """Reference implementation of `Core.unroll`: step by step, with Keras's cell."""
    outputs = []
    for t in range(T):
        state = [x * (1.0 - episode_start[t][:, None].astype(np.float32)) for x in state]
        reward = np.clip(last_reward[t], -1, 1)[:, None]
        action = np.eye(ACTIONS, dtype=np.float32)[last_action[t]]
        output, state = core._cell(tf.concat([features[t], reward, action], axis=-1), state)
        outputs.append(output)
    return tf.stack(outputs), tuple(state)


def forward_and_gradients(core, unroll, arguments, state):
    features, *others = arguments
    features = tf.constant(features)
    with tf.GradientTape() as tape:
        tape.watch([features, state])
        outputs, final = unroll(features, *others, state)
        loss = tf.reduce_sum(tf.sin(3 * outputs)) + tf.reduce_sum(tf.square(final[1])) + tf.reduce_sum(final[0])
    return outputs, final, tape.gradient(loss, [*core.trainable_variables, features, *state])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_equals_keras_cell_forward_and_gradients(core, jit_compile):
    if jit_compile and core._packed:
        pytest.skip("does not compile with XLA")
    arguments, state = inputs(starts=[(0, 0), (2, 1), (3, 1), (5, 2)]), random_state()

    ours = tf.function(lambda: forward_and_gradients(core, core.unroll, arguments, state), jit_compile=jit_compile)()
    theirs = forward_and_gradients(core, lambda *args: keras_unroll(core, *args), arguments, state)
    assert_close(ours, theirs, atol=1e-5)
    assert all(np.abs(gradient).max() > 0.1 for gradient in ours[2])


@settings(deadline=None, max_examples=30)
@given(episode_start=st.lists(st.booleans(), min_size=T * B, max_size=T * B).map(lambda x: np.reshape(x, (T, B))))
@example(np.zeros((T, B), bool))
@example(np.ones((T, B), bool))
@example(np.arange(T)[:, None] == np.zeros(B))
def test_loop_and_packed_equal_keras_cell_wherever_episodes_start(episode_start):
    arguments, state = (*inputs()[:3], episode_start), random_state()
    cores = [LSTMCore(F, ACTIONS, units=UNITS, seed=2, kernel=kernel) for kernel in ("loop", "packed")]
    expected = forward_and_gradients(cores[0], lambda *args: keras_unroll(cores[0], *args), arguments, state)
    for core in cores:
        assert_close(forward_and_gradients(core, core.unroll, arguments, state), expected, atol=2e-5)


@pytest.mark.parametrize("past", [np.inf, np.nan])
def test_no_gradient_flows_through_a_reset(core, past):
    """This also holds if the state before the reset is not finite."""
    arguments = inputs(starts=[(0, b) for b in range(B)])
    state = tuple(tf.fill([B, UNITS], past) for _ in range(2))
    *_, gradients = forward_and_gradients(core, core.unroll, arguments, state)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert not np.any(gradients[-2:])
    features, *others = inputs(starts=[(3, b) for b in range(B)])
    features = tf.constant(features)
    with tf.GradientTape() as tape:
        tape.watch(features)
        outputs, _ = core.unroll(features, *others, random_state())
        loss = tf.reduce_sum(outputs[3:])
    gradient = tape.gradient(loss, features)
    assert not np.any(gradient[:3])
    assert np.all(gradient[3:])


def test_non_finite_values_stay_in_their_episode(core):
    features, *others = inputs(starts=[(3, 1)])
    features[2, 1] = np.nan
    outputs, final = core.unroll(features, *others, random_state())
    bad = ~np.isfinite(outputs.numpy()).all(axis=-1)
    np.testing.assert_array_equal(np.argwhere(bad), [[2, 1]])
    assert all(np.isfinite(x).all() for x in final)


def test_state_is_carried_between_unrolls(core):
    arguments = inputs(starts=[(3, 0), (4, 1)])
    outputs, final = core.unroll(*arguments, core.initial_state(B))
    first, state = core.unroll(*(x[:4] for x in arguments), core.initial_state(B))
    second, state = core.unroll(*(x[4:] for x in arguments), state)
    assert_close((outputs, final), (tf.concat([first, second], axis=0), state))


def test_reset_inside_the_unroll_equals_a_fresh_start(core):
    arguments = inputs(starts=[(3, b) for b in range(B)])
    outputs, final = core.unroll(*arguments, random_state())
    fresh = core.unroll(*(x[3:] for x in inputs()), core.initial_state(B))
    assert_close((outputs[3:], final), fresh)


@pytest.mark.parametrize("past", [0.5, np.inf, np.nan])
def test_reset_erases_the_past(core, past):
    arguments = inputs(starts=[(0, 1)])
    states = random_state(1), tuple(tf.fill([B, UNITS], past) for _ in range(2))
    one, other = (core.unroll(*arguments, state) for state in states)
    np.testing.assert_array_equal(one[0][:, 1], other[0][:, 1])
    assert not np.allclose(one[0][:, 0], other[0][:, 0])  # Without a reset, the past matters.


def test_single_step_equals_unroll(core):
    arguments, state = inputs(starts=[(0, 0), (2, 1)]), random_state()
    outputs, final = core.unroll(*arguments, state)
    for t in range(T):
        output, state = core.unroll(*(x[t : t + 1] for x in arguments), state)
        assert_close(output[0], outputs[t])
    assert_close(state, final)


def test_core_reads_the_clipped_reward_and_the_action(core):
    features, reward, action, episode_start = inputs()
    state = random_state()
    outputs, _ = core.unroll(features, np.full_like(reward, 1.0), action, episode_start, state)
    large, _ = core.unroll(features, np.full_like(reward, 50.0), action, episode_start, state)
    small, _ = core.unroll(features, np.full_like(reward, 0.5), action, episode_start, state)
    other, _ = core.unroll(features, np.full_like(reward, 1.0), (action + 1) % ACTIONS, episode_start, state)
    np.testing.assert_array_equal(outputs, large)
    assert not np.allclose(outputs, small, atol=1e-3)
    assert not np.allclose(outputs, other, atol=1e-3)


def test_lstm_sizes():
    core = make_core("lstm", 256, 9)
    spec = ArraySpec((256,), np.dtype(np.float32))
    assert (core.output_size, core.state_spec) == (256, (spec, spec))
    assert [(x.shape, x.dtype) for x in core.initial_state(2)] == [((2, 256), tf.float32)] * 2
    # One bias vector per gate: 4 x 256 x (256 + 1 + 9 inputs + 256 recurrent + 1).
    assert sum(int(np.prod(v.shape)) for v in core.trainable_variables) == 4 * 256 * (256 + 1 + 9 + 256 + 1)
    np.testing.assert_array_equal(np.split(core._cell.bias, 4), np.repeat([[0], [1], [0], [0]], 256, axis=1))


def test_feed_forward():
    core = make_core("none", F, ACTIONS)
    assert isinstance(core, FeedForwardCore)
    assert (core.state_spec, core.initial_state(B), core.output_size, core.trainable_variables) == ((), (), F, ())
    arguments = inputs(starts=[(2, 1)])
    outputs, state = core.unroll(*arguments, ())
    np.testing.assert_array_equal(outputs, arguments[0])
    assert state == ()


def test_unknown_name():
    with pytest.raises(UserError, match="Unknown core 'gru'; choose one of none, lstm"):
        make_core("gru", F, ACTIONS)

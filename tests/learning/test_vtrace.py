from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from impala_tf.learning import vtrace
from impala_tf.learning.vtrace import Q_ESTIMATES


def reference(
    log_rhos,
    discounts,
    rewards,
    values,
    bootstrap_value,
    rho_bar=1.0,
    c_bar=1.0,
    pg_rho_bar=1.0,
    lambda_=1.0,
    q_estimate="v_trace",
):
    """Equation 1 as the paper writes it: float64, a sum over t of explicit products, quadratic in T."""
    log_rhos, discounts, rewards, values = (np.asarray(x, np.float64) for x in (log_rhos, discounts, rewards, values))
    weights = np.exp(log_rhos)
    rho = np.minimum(weights, math.inf if rho_bar is None else rho_bar)
    c = lambda_ * np.minimum(weights, math.inf if c_bar is None else c_bar)
    pg_rho = np.minimum(weights, math.inf if pg_rho_bar is None else pg_rho_bar)
    extended = np.concatenate([values, np.asarray(bootstrap_value, np.float64)[None]])
    steps = len(values)
    vs = extended.copy()
    for s in range(steps):
        for t in range(s, steps):
            delta = rho[t] * (rewards[t] + discounts[t] * extended[t + 1] - extended[t])
            vs[s] += np.prod(discounts[s:t], axis=0) * np.prod(c[s:t], axis=0) * delta
    later = vs[1:] if q_estimate == "v_trace" else extended[1:]
    return vs[:-1], pg_rho * (rewards + discounts * later - values)


def thresholds(rho_bar, c_bar, pg_rho_bar):
    return {"rho_bar": rho_bar, "c_bar": c_bar, "pg_rho_bar": pg_rho_bar}


def v_trace(*arguments, rho_bar=1.0, c_bar=1.0, pg_rho_bar=1.0, lambda_=1.0, q_estimate="v_trace"):
    """With the paper's thresholds, unless others are given."""
    clips = thresholds(rho_bar, c_bar, pg_rho_bar)
    return vtrace.v_trace(*arguments, **clips, lambda_=lambda_, q_estimate=q_estimate)


def random_arguments(shape, seed=0):
    """Log weights in about [-2.5, 2.5], both ways beyond log 1, and about a quarter of the transitions terminal."""
    rng = np.random.default_rng(seed)
    log_rhos = 2.5 * np.sin(rng.uniform(-6, 6, shape))
    discounts = 0.9 * (rng.random(shape) > 0.25)
    rewards, values, bootstrap_value = rng.normal(size=shape), rng.normal(size=shape), rng.normal(size=shape[1:])
    return tuple(np.asarray(x, np.float32) for x in (log_rhos, discounts, rewards, values, bootstrap_value))


REWARDS = [1.0, 0.0, 2.0, -1.0]
VALUES = [0.5, 1.0, -0.5, 2.0]
BOOTSTRAP_VALUE = 1.5
W = [0.5, 2.0, 1.0, 0.25]
ON_POLICY_VS = [2.875150, 2.083500, 2.315000, 0.350000]


@pytest.mark.parametrize(
    "weights, done, kwargs, vs, advantages",
    [
        (W, None, {}, [2.138644, 3.085875, 3.428750, 1.587500], [1.638644, 2.085875, 3.928750, -0.412500]),
        (
            W,
            None,
            thresholds(2.0, 2.0, 2.0),
            [3.077287, 5.171750, 3.428750, 1.587500],
            [2.577287, 4.171750, 3.928750, -0.412500],
        ),
        (
            W,
            None,
            {"lambda_": 0.95},
            [2.022917, 2.924952, 3.447312, 1.587500],
            [1.566228, 2.102581, 3.928750, -0.412500],
        ),
        (W, 1, {}, [0.750000, 0.000000, 3.428750, 1.587500], [0.250000, -1.000000, 3.928750, -0.412500]),
        # r + 0.9 V(x_{s+1}) - V(x_s) is 1.4, -1.45, 4.3, -1.65.
        (
            W,
            None,
            {"q_estimate": "value"},
            [2.138644, 3.085875, 3.428750, 1.587500],
            [0.700000, -1.450000, 4.300000, -0.412500],
        ),
        ([1.0] * 4, None, {}, ON_POLICY_VS, [2.375150, 1.083500, 2.815000, -1.650000]),
    ],
    ids=["clip 1", "clip 2", "lambda", "episode end", "value", "on-policy"],
)
def test_worked_examples(weights, done, kwargs, vs, advantages):
    discounts = np.full(4, 0.9)
    if done is not None:
        discounts[done] = 0.0
    returns = v_trace(np.log(weights), discounts, REWARDS, VALUES, BOOTSTRAP_VALUE, **kwargs)
    np.testing.assert_allclose(returns.vs, vs, atol=2e-6)
    np.testing.assert_allclose(returns.pg_advantages, advantages, atol=2e-6)


@pytest.mark.parametrize("clips", [(1.0, 1.0, 1.0), (3.7, 2.2, 1.5), (None, None, None), (10.0, 1.0, None)])
@pytest.mark.parametrize("shape", [(7,), (5, 3), (4, 2, 3), (1, 2), (3, 2, 1, 2)])
def test_equals_the_quadratic_sum(shape, clips):
    arguments = random_arguments(shape, seed=len(shape))
    returns = v_trace(*arguments, **thresholds(*clips), lambda_=0.9)
    vs, advantages = reference(*arguments, *clips, lambda_=0.9)
    np.testing.assert_allclose(returns.vs, vs, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(returns.pg_advantages, advantages, rtol=2e-5, atol=2e-5)


def test_every_clip_changes_the_result():
    """Otherwise the comparison with the quadratic sum would pass with an unused threshold."""
    arguments = random_arguments((6, 4))
    unclipped = v_trace(*arguments, **thresholds(None, None, None))
    for clips, changed in (((1.5, None, None), "vs"), ((None, 1.5, None), "vs"), ((None, None, 1.5), "pg_advantages")):
        clipped = v_trace(*arguments, **thresholds(*clips))
        assert not np.allclose(getattr(clipped, changed), getattr(unclipped, changed))
    np.testing.assert_array_equal(clipped.vs, unclipped.vs)  # The advantages' clip does not affect the targets.


finite = st.floats(-3, 3, width=32)


@st.composite
def arguments_and_clips(draw):
    steps = draw(st.integers(1, 6))
    column = st.lists(finite, min_size=steps, max_size=steps)
    discounts = draw(st.lists(st.sampled_from([0.0, 0.5, 0.99]), min_size=steps, max_size=steps))
    arguments = (draw(column), discounts, draw(column), draw(column), draw(finite))
    c_bar = draw(st.floats(0.25, 4))
    clips = thresholds(c_bar + draw(st.floats(0, 2)), c_bar, draw(st.floats(0.25, 4)))
    return arguments, {**clips, "lambda_": draw(st.floats(0, 1)), "q_estimate": draw(st.sampled_from(Q_ESTIMATES))}


@settings(max_examples=40, deadline=None)
@given(arguments_and_clips())
def test_equals_the_quadratic_sum_for_any_input(case):
    arguments, kwargs = case
    returns = v_trace(*arguments, **kwargs)
    vs, advantages = reference(*arguments, **kwargs)
    scale = 1 + np.abs(vs).max() + np.abs(advantages).max()
    np.testing.assert_allclose(returns.vs, vs, rtol=1e-4, atol=1e-5 * scale)
    np.testing.assert_allclose(returns.pg_advantages, advantages, rtol=1e-4, atol=1e-5 * scale)


@settings(max_examples=30, deadline=None)
@given(arguments_and_clips(), st.integers(0, 5))
def test_nothing_flows_back_across_an_episode_end(case, end):
    (log_rhos, discounts, rewards, values, bootstrap_value), kwargs = case
    end = min(end, len(rewards) - 1)
    discounts = [0.0 if t == end else d for t, d in enumerate(discounts)]
    later = [7.0 if t > end else r for t, r in enumerate(rewards)]
    one = v_trace(log_rhos, discounts, rewards, values, bootstrap_value, **kwargs)
    other = v_trace(log_rhos, discounts, later, values, 9.0, **kwargs)
    for a, b in zip(one, other):
        np.testing.assert_array_equal(a[: end + 1], b[: end + 1])


def test_on_policy_targets_are_n_step_returns():
    """Equation 2: with pi = mu the values inside the unroll cancel, for all thresholds >= 1."""
    _, discounts, rewards, values, bootstrap_value = random_arguments((6, 3))
    expected, later = [], bootstrap_value
    for reward, discount in zip(rewards[::-1], discounts[::-1]):
        later = reward + discount * later
        expected.append(later)
    logits = np.random.default_rng(1).normal(size=(6, 3, 4))
    log_rhos = vtrace.log_importance_weights(logits, logits + 5.0, np.full((6, 3), 2))
    returns = v_trace(log_rhos, discounts, rewards, values, bootstrap_value, rho_bar=3.0)
    np.testing.assert_allclose(returns.vs, expected[::-1], atol=1e-5)
    np.testing.assert_allclose(log_rhos, np.zeros((6, 3)), atol=1e-6)


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 3, 2)])
def test_from_the_logits_of_two_policies(shape):
    rng = np.random.default_rng(2)
    behaviour, target = rng.normal(size=(2, *shape, 5)) * 2
    actions = rng.integers(0, 5, shape)
    _, *arguments = random_arguments(shape)

    def log_probs(logits):
        probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        return np.log(np.take_along_axis(probabilities, actions[..., None], -1)[..., 0])

    log_rhos = log_probs(target) - log_probs(behaviour)
    assert log_rhos.max() > 0.5 > -0.5 > log_rhos.min()
    found = vtrace.log_importance_weights(behaviour, target, actions)
    np.testing.assert_allclose(found, log_rhos, atol=1e-5)
    returns = v_trace(found, *arguments, **thresholds(1.2, 1.1, 1.3), lambda_=0.8)
    vs, advantages = reference(log_rhos, *arguments, 1.2, 1.1, 1.3, lambda_=0.8)
    np.testing.assert_allclose(returns.vs, vs, atol=2e-5)
    np.testing.assert_allclose(returns.pg_advantages, advantages, atol=2e-5)


def test_log_probs_are_float32_and_exact_for_bfloat16_and_large_logits():
    logits = tf.constant([[300.0, 0.0, -300.0], [1.0, 1.0, 1.0]], tf.bfloat16)
    log_probs = vtrace.log_probs_from_logits_and_actions(logits, tf.constant([2, 0]))
    assert log_probs.dtype == tf.float32
    np.testing.assert_allclose(log_probs, [-600.0, -math.log(3)], rtol=1e-6)


def test_no_gradient():
    arguments = [tf.constant(x) for x in random_arguments((4, 2))]
    logits = tf.random.stateless_normal([2, 4, 2, 3], seed=(0, 1))
    with tf.GradientTape() as tape:
        tape.watch([*arguments, logits])
        weights = vtrace.log_importance_weights(logits[0], logits[1], tf.zeros([4, 2], tf.int32))
        total = sum(tf.reduce_sum(x) for x in (*v_trace(*arguments), weights))
    assert tape.gradient(total, [*arguments, logits]) == [None] * 6


def test_float64_and_graph_and_xla_equal_plain():
    arguments = random_arguments((5, 3))
    plain = v_trace(*arguments)
    float64 = v_trace(*(x.astype(np.float64) for x in arguments))
    xla = tf.function(v_trace, jit_compile=True)(*map(tf.constant, arguments))
    signature = [tf.TensorSpec([None] * x.ndim, tf.float32) for x in arguments]
    any_shape = tf.function(v_trace, input_signature=signature)(*arguments)
    for other in (float64, xla, any_shape):
        for a, b in zip(other, plain):
            assert a.dtype == tf.float32
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("wrong", range(1, 5))
def test_wrong_shapes(wrong):
    arguments = list(random_arguments((4, 3)))
    arguments[wrong] = arguments[wrong][..., :1]  # Would broadcast.
    name = ("discounts", "rewards", "values", "bootstrap_value")[wrong - 1]
    with pytest.raises(ValueError, match=f"{name} must have shape"):
        v_trace(*arguments)


def test_scalar_and_wrong_actions_and_unknown_estimate():
    with pytest.raises(ValueError, match="Unknown q_estimate 'q'; choose one of v_trace, value"):
        v_trace(*random_arguments((4, 3)), q_estimate="q")
    with pytest.raises(ValueError, match="time first"):
        v_trace(0.0, 0.0, 0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="actions must have shape"):
        vtrace.log_probs_from_logits_and_actions(np.zeros([4, 3, 2]), np.zeros([4], np.int32))

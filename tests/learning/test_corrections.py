"""The off-policy corrections of Table 2, on worked numbers and against slow sums, and the loss's choice of one."""

from __future__ import annotations

import dataclasses
import inspect
import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from impala_tf import config as config_lib
from impala_tf.errors import UserError
from impala_tf.learning.corrections import CORRECTIONS, Correction, TargetsFunction, plus_epsilon
from impala_tf.learning.losses import impala_loss
from impala_tf.learning.vtrace import Q_ESTIMATES, Targets
from impala_tf.structures import AgentOutput, Trajectory

PAPERS = {"rho_bar": 1.0, "c_bar": 1.0, "pg_rho_bar": 1.0, "lambda_": 1.0}
OTHERS = {"rho_bar": 1.4, "c_bar": 1.1, "pg_rho_bar": 1.2, "lambda_": 0.9}


def transitions(shape=(6, 4)):
    rng = np.random.default_rng(3)
    log_rhos, rewards, values = rng.normal(size=(3, *shape)).astype(np.float32)
    discounts = (0.9 * (rng.random(shape) > 0.25)).astype(np.float32)
    return log_rhos, discounts, rewards, values, rng.normal(size=shape[1:]).astype(np.float32)


V_TRACE = [2.138644, 3.085875, 3.428750, 1.587500]
N_STEP = [2.875150, 2.083500, 2.315000, 0.350000]


@pytest.mark.parametrize(
    ("name", "q_estimate", "vs", "advantages"),
    [
        ("v_trace", "v_trace", V_TRACE, [1.638644, 2.085875, 3.928750, -0.412500]),
        ("one_step", "v_trace", N_STEP, [1.187575, 1.083500, 2.815000, -0.412500]),
        ("epsilon", "v_trace", N_STEP, [2.375150, 1.083500, 2.815000, -1.650000]),
        ("none", "v_trace", N_STEP, [2.375150, 1.083500, 2.815000, -1.650000]),
        # r_s + 0.9 V(x_{s+1}) - V(x_s) is 1.4, -1.45, 4.3, -1.65.
        ("v_trace", "value", V_TRACE, [0.700000, -1.450000, 4.300000, -0.412500]),
        ("one_step", "value", N_STEP, [0.700000, -1.450000, 4.300000, -0.412500]),
        ("epsilon", "value", N_STEP, [1.400000, -1.450000, 4.300000, -1.650000]),
        ("none", "value", N_STEP, [1.400000, -1.450000, 4.300000, -1.650000]),
    ],
)
def test_worked_examples(name, q_estimate, vs, advantages):
    log_rhos, discounts = np.log([0.5, 2.0, 1.0, 0.25]), np.full(4, 0.9)
    rewards, values, bootstrap_value = [1.0, 0.0, 2.0, -1.0], [0.5, 1.0, -0.5, 2.0], 1.5
    targets = CORRECTIONS[name].targets(
        log_rhos, discounts, rewards, values, bootstrap_value, **PAPERS, q_estimate=q_estimate
    )
    np.testing.assert_allclose(targets.vs, vs, atol=2e-6)
    np.testing.assert_allclose(targets.pg_advantages, advantages, atol=2e-6)


def reference(name, log_rhos, discounts, rewards, values, bootstrap_value, *, q_estimate, **clips):
    """Targets of one unroll [T] in float64: for each s a sum over the future of explicit products, no recursion."""
    weights, next_values = np.exp(np.float64(log_rhos)), [*values[1:], bootstrap_value]
    end = len(rewards)

    def equation_1(s):
        def trace(i):
            return clips["lambda_"] * min(clips["c_bar"], weights[i])

        def delta(t):
            return min(clips["rho_bar"], weights[t]) * (rewards[t] + discounts[t] * next_values[t] - values[t])

        return values[s] + sum(
            math.prod(discounts[s:t]) * math.prod(trace(i) for i in range(s, t)) * delta(t) for t in range(s, end)
        )

    def n_step_return(s):
        discounted = sum(math.prod(discounts[s:t]) * rewards[t] for t in range(s, end))
        return discounted + math.prod(discounts[s:]) * bootstrap_value

    vs = [equation_1(s) if name == "v_trace" else n_step_return(s) for s in range(end)]
    later = [*vs[1:], bootstrap_value] if q_estimate == "v_trace" else next_values
    factors = [min(clips["pg_rho_bar"], w) if name in ("v_trace", "one_step") else 1.0 for w in weights]
    return vs, [factors[s] * (rewards[s] + discounts[s] * later[s] - values[s]) for s in range(end)]


numbers = st.floats(-3, 3, width=32)


@st.composite
def unrolls(draw):
    steps = draw(st.integers(1, 6))
    column = st.lists(numbers, min_size=steps, max_size=steps)
    discounts = draw(st.lists(st.sampled_from([0.0, 0.5, 0.99]), min_size=steps, max_size=steps))
    return draw(column), discounts, draw(column), draw(column), draw(numbers)


clips = st.fixed_dictionaries({name: st.floats(0.25, 4) for name in ("rho_bar", "c_bar", "pg_rho_bar")})


@pytest.mark.parametrize("q_estimate", Q_ESTIMATES)
@pytest.mark.parametrize("name", CORRECTIONS)
@settings(max_examples=20, deadline=None)
@given(unrolls(), clips, st.floats(0, 1))
def test_equals_the_sums_over_the_future_for_any_input(name, q_estimate, arguments, clips, lambda_):
    kwargs = {**clips, "lambda_": lambda_, "q_estimate": q_estimate}
    targets = CORRECTIONS[name].targets(*arguments, **kwargs)
    vs, advantages = reference(name, *arguments, **kwargs)
    scale = 1 + np.abs(vs).max() + np.abs(advantages).max()
    np.testing.assert_allclose(targets.vs, vs, rtol=1e-4, atol=1e-5 * scale)
    np.testing.assert_allclose(targets.pg_advantages, advantages, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("q_estimate", Q_ESTIMATES)
@pytest.mark.parametrize("name", CORRECTIONS)
def test_on_policy_all_agree(name, q_estimate):
    """Equation 2: with w = 1, and clips of at least 1, V-trace's targets are n-step returns."""
    log_rhos, *others = transitions()
    kwargs = {"rho_bar": 3.0, "c_bar": 2.0, "pg_rho_bar": 4.0, "lambda_": 1.0, "q_estimate": q_estimate}
    ours, v_trace = (CORRECTIONS[x].targets(np.zeros_like(log_rhos), *others, **kwargs) for x in (name, "v_trace"))
    for a, b in zip(ours, v_trace):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("setting", config_lib.CORRECTIONS["v_trace"])
@pytest.mark.parametrize("name", CORRECTIONS)
def test_a_correction_uses_the_settings_that_are_said_to_be_its_own(name, setting):
    argument = {"vtrace_lambda": "lambda_"}.get(setting, setting)
    one, other = (
        CORRECTIONS[name].targets(*transitions(), **kwargs, q_estimate="v_trace")
        for kwargs in (OTHERS, {**OTHERS, argument: 0.1})
    )
    assert np.allclose(one.pg_advantages, other.pg_advantages) == (setting not in config_lib.CORRECTIONS[name])
    assert np.allclose(one.vs, other.vs) == (setting not in config_lib.CORRECTIONS[name] or setting == "pg_rho_bar")


@pytest.mark.parametrize("q_estimate", Q_ESTIMATES)
@pytest.mark.parametrize("name", CORRECTIONS)
def test_all_corrections_have_one_signature_and_are_the_same_in_xla(name, q_estimate):
    targets = CORRECTIONS[name].targets
    expected = list(inspect.signature(TargetsFunction.__call__).parameters.values())[1:]
    assert list(inspect.signature(targets).parameters.values()) == expected

    def compute(*arguments):
        return targets(*arguments, **OTHERS, q_estimate=q_estimate)

    plain = compute(*transitions())
    assert [(x.shape, x.dtype) for x in plain] == [((6, 4), tf.float32)] * 2
    float64 = compute(*(x.astype(np.float64) for x in transitions()))
    xla = tf.function(compute, jit_compile=True)(*map(tf.constant, transitions()))
    for other in (float64, xla):
        for a, b in zip(other, plain):
            assert a.dtype == tf.float32
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CORRECTIONS)
def test_targets_are_constants_and_wrong_shapes_are_refused(name):
    arguments = [tf.constant(x) for x in transitions()]
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        targets = CORRECTIONS[name].targets(*arguments, **OTHERS, q_estimate="v_trace")
        total = tf.reduce_sum(targets.vs) + tf.reduce_sum(targets.pg_advantages)
    assert tape.gradient(total, arguments) == [None] * 5
    with pytest.raises(ValueError, match="rewards must have shape"):
        CORRECTIONS[name].targets(*arguments[:2], arguments[2][..., :1], *arguments[3:], **OTHERS, q_estimate="v_trace")


@pytest.mark.parametrize("xla", [False, True])
def test_log_of_pi_plus_epsilon(xla):
    """log(pi + 1e-6), and its gradient in log pi, pi / (pi + 1e-6); finite where pi is 0 in float32."""
    log_pi = np.array([0.0, -0.1, -3.0, -13.0, -14.0, -20.0, -200.0, -3e38, -math.inf], np.float32)

    def value_and_gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = plus_epsilon(x)
        return value, tape.gradient(value, x)

    value, gradient = tf.function(value_and_gradient, jit_compile=xla)(tf.constant(log_pi))
    pi = np.exp(log_pi.astype(np.float64))
    np.testing.assert_allclose(value, np.log(pi + 1e-6), atol=2e-6)
    np.testing.assert_allclose(gradient, pi / (pi + 1e-6), rtol=2e-5, atol=1e-30)


def loss_of(**kwargs):
    """Computes a loss with discount 0.9; returns the agent's values and the result."""
    rng = np.random.default_rng(0)
    output = AgentOutput(rng.normal(size=(7, 4, 3)).astype(np.float32), rng.normal(size=(7, 4)).astype(np.float32))
    trajectory = Trajectory(**dict.fromkeys(Trajectory._fields, ()))._replace(
        reward=rng.normal(size=(7, 4)).astype(np.float32),
        terminated=np.zeros((7, 4), bool),
        truncated=np.zeros((7, 4), bool),
        action=rng.integers(0, 3, (7, 4)),
        behaviour_logits=rng.normal(size=(7, 4, 3)).astype(np.float32),
    )
    loss, metrics = impala_loss(output, trajectory, discount=0.9, baseline_cost=0.5, entropy_cost=0.01, **kwargs)
    return output.value, loss, metrics


def test_the_loss_uses_the_targets_and_the_log_probability_of_the_chosen_correction(monkeypatch):
    calls = []

    def zero(log_rhos, discounts, rewards, values, bootstrap_value, **kwargs):
        calls.append((log_rhos, discounts, rewards, values, bootstrap_value, kwargs))
        return Targets(tf.zeros_like(values), tf.ones_like(values))

    monkeypatch.setitem(CORRECTIONS, "zero", Correction(zero, lambda log_pi: 0.0 * log_pi + 2.0))
    value, _, metrics = loss_of(correction="zero", **OTHERS, q_estimate="value")
    ((log_rhos, discounts, rewards, values, bootstrap_value, kwargs),) = calls
    assert kwargs == {**OTHERS, "q_estimate": "value"}
    assert {x.shape for x in (log_rhos, discounts, rewards, values)} == {(6, 4)}
    np.testing.assert_array_equal(values, value[:-1])
    np.testing.assert_array_equal(bootstrap_value, value[-1])
    assert metrics["policy_loss"] == -6 * 4 * 2.0
    np.testing.assert_allclose(metrics["baseline_loss"], 0.25 * np.sum(value[:-1] ** 2), rtol=1e-5)


def test_v_trace_is_the_default_and_unknown_names_are_refused():
    assert loss_of()[1] == loss_of(correction="v_trace", q_estimate="v_trace")[1]
    with pytest.raises(UserError, match="Unknown correction 'retrace'; choose one of v_trace, one_step, epsilon, none"):
        loss_of(correction="retrace")
    with pytest.raises(ValueError, match="Unknown q_estimate 'q'; choose one of v_trace, value"):
        loss_of(q_estimate="q")


def test_how_far_the_data_are_off_policy_is_said_alike_for_all():
    metrics = [loss_of(correction=name)[2] for name in CORRECTIONS]
    assert 0 < metrics[0]["rho_clipped"] < 1 and 0 < metrics[0]["rho"] < 1
    assert len({(float(x["rho"]), float(x["rho_clipped"])) for x in metrics}) == 1


def test_the_settings_have_the_choices_of_the_loss():
    choices = {setting.name: setting.metadata["choices"] for setting in dataclasses.fields(config_lib.LossConfig)}
    assert choices["correction"] == tuple(CORRECTIONS)
    assert choices["q_estimate"] == Q_ESTIMATES

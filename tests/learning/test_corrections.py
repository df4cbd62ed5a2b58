"""The table of off-policy corrections, and the loss's choice from it."""

import inspect

import numpy as np
import pytest
import tensorflow as tf

from impala_tf.learning.corrections import CORRECTIONS, Correction
from impala_tf.learning.losses import impala_loss
from impala_tf.learning.vtrace import Targets
from impala_tf.structures import AgentOutput, Trajectory

SETTINGS = {"rho_bar": 1.4, "c_bar": 1.1, "pg_rho_bar": 1.2, "lambda_": 0.9}


def transitions(shape=(6, 4)):
    rng = np.random.default_rng(3)
    log_rhos, rewards, values = rng.normal(size=(3, *shape)).astype(np.float32)
    discounts = (0.9 * (rng.random(shape) > 0.25)).astype(np.float32)
    return log_rhos, discounts, rewards, values, rng.normal(size=shape[1:]).astype(np.float32)


@pytest.mark.parametrize("name", SETTINGS)
def test_v_trace_uses_every_setting(name):
    found, other = (
        CORRECTIONS["v_trace"](*transitions(), **settings) for settings in (SETTINGS, {**SETTINGS, name: 0.1})
    )
    changed = "pg_advantages" if name == "pg_rho_bar" else "vs"
    assert not np.allclose(getattr(found, changed), getattr(other, changed))


@pytest.mark.parametrize("name", CORRECTIONS)
def test_all_corrections_have_one_signature(name):
    expected = list(inspect.signature(Correction.__call__).parameters.values())[1:]
    assert list(inspect.signature(CORRECTIONS[name]).parameters.values()) == expected
    targets = CORRECTIONS[name](*transitions(), **SETTINGS)
    assert [x.shape for x in targets] == [(6, 4)] * 2


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


def test_the_loss_uses_the_targets_of_the_chosen_correction(monkeypatch):
    calls = []

    def zero(log_rhos, discounts, rewards, values, bootstrap_value, **kwargs):
        calls.append((log_rhos, discounts, rewards, values, bootstrap_value, kwargs))
        return Targets(tf.zeros_like(values), tf.zeros_like(values))

    monkeypatch.setitem(CORRECTIONS, "zero", zero)
    value, _, metrics = loss_of(correction="zero", **SETTINGS)
    ((log_rhos, discounts, rewards, values, bootstrap_value, kwargs),) = calls
    assert kwargs == SETTINGS
    assert {x.shape for x in (log_rhos, discounts, rewards, values)} == {(6, 4)}
    np.testing.assert_array_equal(values, value[:-1])
    np.testing.assert_array_equal(bootstrap_value, value[-1])
    assert metrics["policy_loss"] == 0
    np.testing.assert_allclose(metrics["baseline_loss"], 0.25 * np.sum(value[:-1] ** 2), rtol=1e-5)


def test_v_trace_is_the_default_and_unknown_corrections_are_refused():
    assert loss_of()[1] == loss_of(correction="v_trace")[1]
    with pytest.raises(ValueError, match="Unknown correction 'retrace'; choose one of v_trace"):
        loss_of(correction="retrace")

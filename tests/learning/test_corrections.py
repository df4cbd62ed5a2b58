"""The table of off-policy corrections."""

import inspect

import numpy as np
import pytest

from impala_tf.learning import vtrace
from impala_tf.learning.corrections import CORRECTIONS, Correction

SETTINGS = {"rho_bar": 1.4, "c_bar": 1.1, "pg_rho_bar": 1.2, "lambda_": 0.9}


def transitions(shape=(6, 4)):
    rng = np.random.default_rng(3)
    log_rhos, rewards, values = rng.normal(size=(3, *shape)).astype(np.float32)
    discounts = (0.9 * (rng.random(shape) > 0.25)).astype(np.float32)
    return log_rhos, discounts, rewards, values, rng.normal(size=shape[1:]).astype(np.float32)


@pytest.mark.parametrize("changes", [{}, {"rho_bar": None, "c_bar": None, "pg_rho_bar": None}, {"lambda_": 0.3}])
def test_v_trace_equals_vtrace(changes):
    settings = {**SETTINGS, **changes}
    found = CORRECTIONS["v_trace"](*transitions(), **settings)
    expected = vtrace.from_importance_weights(
        *transitions(),
        clip_rho_threshold=settings["rho_bar"],
        clip_c_threshold=settings["c_bar"],
        clip_pg_rho_threshold=settings["pg_rho_bar"],
        lambda_=settings["lambda_"],
    )
    np.testing.assert_array_equal(found.vs, expected.vs)
    np.testing.assert_array_equal(found.pg_advantages, expected.pg_advantages)


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

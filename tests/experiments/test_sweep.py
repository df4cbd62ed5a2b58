"""The hyperparameters of the paper's sweep (Table D.1)."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from impala_tf.experiments import sweep

MANY = sweep.draw(seed=7, combinations=4000)


@given(st.integers(0, 2**40), st.integers(1, 60))
def test_values_are_within_the_ranges_of_table_d1(seed, combinations):
    drawn = sweep.draw(seed, combinations)
    assert len(drawn) == combinations
    for values in drawn:
        assert list(values) == ["entropy_cost", "learning_rate", "rmsprop_epsilon"]
        assert 5e-5 <= values["entropy_cost"] <= 1e-2
        assert 5e-6 <= values["learning_rate"] <= 5e-3
        assert values["rmsprop_epsilon"] in (1e-1, 1e-3, 1e-5, 1e-7)


@pytest.mark.parametrize(("name", "low", "high"), [("entropy_cost", 5e-5, 1e-2), ("learning_rate", 5e-6, 5e-3)])
def test_log_uniform(name, low, high):
    """Each tenth of the range of logarithms gets a tenth of the draws: 400, with standard deviation 19."""
    tenths = [int(10 * math.log(values[name] / low) / math.log(high / low)) for values in MANY]
    assert all(abs(tenths.count(tenth) - 400) < 80 for tenth in range(10))


def test_epsilons_are_equally_likely():
    drawn = [values["rmsprop_epsilon"] for values in MANY]
    assert all(abs(drawn.count(epsilon) - 1000) < 110 for epsilon in (1e-1, 1e-3, 1e-5, 1e-7))


def test_hyperparameters_are_independent_of_each_other():
    logs = [
        [math.log(values[name]) for values in MANY] for name in ("entropy_cost", "learning_rate", "rmsprop_epsilon")
    ]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert abs(correlation(logs[a], logs[b])) < 0.07  # More than 4 standard deviations.


def correlation(x, y):
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    products = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y))
    return products / math.sqrt(sum((a - mean_x) ** 2 for a in x) * sum((b - mean_y) ** 2 for b in y))


def test_seeds_and_numbers():
    assert len(sweep.draw(1)) == 24
    assert sweep.draw(1) == sweep.draw(1) == sweep.draw(1, 30)[:24] != sweep.draw(2)


def test_a_seed_always_gives_the_same_values():
    """Results of earlier sweeps stay comparable with later ones."""
    assert sweep.draw(1, 2) == [
        {"entropy_cost": 0.000101893, "learning_rate": 0.00174289, "rmsprop_epsilon": 1e-07},
        {"entropy_cost": 0.000193149, "learning_rate": 0.000153206, "rmsprop_epsilon": 0.001},
    ]

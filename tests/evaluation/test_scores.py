"""Means, confidence intervals and scores."""

import math

import numpy as np
import pytest

from impala_tf import suites
from impala_tf.evaluation import scores


def test_of_a_task():
    found = scores.of_task("atari/pong", [21.0, 19.0, 20.0, -20.0], [1000, 1100, 1200, 900])
    assert found["mean"] == 10 and found["median"] == 19.5
    assert (found["min"], found["max"], found["mean_length"]) == (-20, 21, 1050)
    assert found["std"] == pytest.approx(math.sqrt((11**2 + 9**2 + 10**2 + 30**2) / 3))
    assert found["human_normalised"] == pytest.approx(suites.human_normalised("atari/pong", 10.0))
    low, high = found["mean_ci95"]
    assert -20 <= low < 10 < high <= 21


def test_one_episode_and_no_references():
    found = scores.of_task("catch", [1.0], [9])
    assert found["mean_ci95"] is None and found["std"] == 0 and found["human_normalised"] is None
    assert scores.difference([1.0], [-1.0]) == {"mean": 2.0, "mean_ci95": None}


def test_the_difference_is_that_of_pairs():
    """What both players owe to the episode's seed cancels."""
    random = np.random.default_rng(3)
    luck = random.normal(0, 100, size=50)
    found = scores.difference(luck + random.normal(3, 1, size=50), luck)
    low, high = found["mean_ci95"]
    assert low < found["mean"] < high and found["mean"] == pytest.approx(3, abs=0.5)
    assert high - low == pytest.approx(2 * 1.96 / 50**0.5, rel=0.3)


def test_the_interval_has_its_nominal_coverage():
    """About 95% of 200 intervals, each from 200 episodes with skewed returns, contain the mean."""
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        returns = random.exponential(10, size=200)
        low, high = scores.of_task("catch", returns, [1])["mean_ci95"]
        covered += low < 10 < high
    assert 180 <= covered <= 198


def test_the_interval_agrees_with_the_normal_approximation():
    values = np.random.default_rng(1).normal(5, 2, size=400)
    low, high = scores.of_task("catch", values, [1])["mean_ci95"]
    margin = 1.96 * values.std(ddof=1) / 20
    assert (low, high) == pytest.approx((values.mean() - margin, values.mean() + margin), abs=0.02)


@pytest.mark.parametrize("suite", suites.SUITES)
def test_of_a_suite(suite):
    """Compares with the scores of the tasks; for DMLab-30, returns are keyed by the test levels."""
    random = np.random.default_rng(2)
    names = suites.env_ids(suite, test=True)
    returns = {name: random.normal(100, 50, size=5) for name in names}
    found = scores.of_suite(suite, returns)
    each = [suites.human_normalised(name, returns[name].mean()) for name in names]
    assert found["name"] == suite
    assert found["human_normalised_median"] == pytest.approx(np.median(each))
    assert found["human_normalised_mean"] == pytest.approx(np.mean(each))
    assert found["human_normalised_mean_capped"] == pytest.approx(np.mean(np.minimum(each, 1)))
    for name in ("human_normalised_median", "human_normalised_mean", "human_normalised_mean_capped"):
        low, high = found[f"{name}_ci95"]
        assert low < found[name] < high
    single = scores.of_suite(suite, {name: values[: 1 + i] for i, (name, values) in enumerate(returns.items())})
    assert single["human_normalised_median_ci95"] is None

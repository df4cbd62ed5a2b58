"""The paper's rule (Appendix F): who is copied, what is perturbed, and when nothing happens."""

from __future__ import annotations

import collections
import math
import random

import pytest

from impala_tf.experiments.population import rule
from impala_tf.experiments.population.rule import STAYS, Rule

NAMES = ("learning_rate", "rmsprop_epsilon", "entropy_cost")
NEVER = Rule(probability=0.0, burn_in_frames=0)
MANY = 20_000


def decisions(number=MANY, *, member=0, frames=10**9, fitness=0.5, others=(0.5,) * 4, of=None):
    of = of or Rule(burn_in_frames=0)
    return [
        rule.evolve(member, frames, fitness, others, NAMES, of, rule.generator(1, member, evaluation))
        for evaluation in range(number)
    ]


def near(share, probability):
    """Within five standard deviations."""
    assert abs(share - probability) < 5 * math.sqrt(probability * (1 - probability) / MANY)


def test_the_defaults_are_the_papers():
    assert Rule() == Rule(margin=0.05, probability=0.33, factor=1.2, burn_in_frames=20_000_000)


@pytest.mark.parametrize("member", [0, 2, 4])
def test_the_rival_is_any_other_member_with_the_same_probability(member):
    draw = random.Random(3)
    drawn = collections.Counter(rule.rival(member, 5, draw) for _ in range(MANY))
    assert set(drawn) == set(range(5)) - {member}
    for count in drawn.values():
        near(count / MANY, 1 / 4)


def test_only_one_rival_is_looked_at():
    # Only member 3 is better: it is copied as often as it is drawn, not whenever it is there.
    copied = [each.copied_from for each in decisions(others=(0.5, 0.5, 0.5, 0.9), of=NEVER)]
    assert set(copied) == {None, 3}
    near(copied.count(3) / MANY, 1 / 3)


@pytest.mark.parametrize(
    ("own", "other", "copied"),
    [
        (0.5, 0.56, True),
        (0.5, 0.54, False),
        (0.5, 0.4, False),
        (0.0, 0.05, False),
        (10.0, 10.06, True),
        (-0.9, -0.8, True),
    ],
)
def test_a_rival_is_copied_if_it_scores_more_than_an_absolute_5_percent_higher(own, other, copied):
    (decision,) = decisions(1, fitness=own, others=(own, other), of=NEVER)
    assert decision.copied_from == (1 if copied else None)


def test_who_cannot_be_copied_is_not_and_who_cannot_train_copies_anyone():
    assert not rule.copies(0.5, None, 0.05) and not rule.copies(0.5, -math.inf, 0.05)
    assert not rule.copies(0.5, math.nan, 0.05) and not rule.copies(math.nan, 0.9, 0.05)
    assert rule.copies(-math.inf, -0.9, 0.05) and not rule.copies(-math.inf, -math.inf, 0.05)


@pytest.mark.parametrize("others", [(0.5, 0.5), (0.5, 0.9)])  # Not copied, copied.
def test_each_value_is_perturbed_with_33_percent_by_either_factor_whether_copied_or_not(others):
    made = decisions(others=others)
    assert {each.copied_from for each in made} == ({None} if others[1] == 0.5 else {1})
    for name in NAMES:
        factors = [each.factors.get(name) for each in made]
        assert set(factors) == {None, 1.2, 1 / 1.2}
        near(sum(f is not None for f in factors) / MANY, 0.33)
        near(factors.count(1.2) / MANY, 0.165)


def test_values_are_perturbed_independently():
    made = decisions()
    for first, second in (NAMES[:2], NAMES[1:]):
        near(sum(first in each.factors and second in each.factors for each in made) / MANY, 0.33**2)
        both = [each.factors for each in made if first in each.factors and second in each.factors]
        share = sum(f[first] == f[second] for f in both) / len(both)
        assert abs(share - 0.5) < 5 * 0.5 / math.sqrt(len(both))


def test_the_perturbation_is_unbiased():
    assert rule.values_after({"x": 0.006}, {"x": 1.2}) == {"x": 0.0072}
    assert rule.values_after({"x": 0.0072}, {"x": 1 / 1.2}) == {"x": 0.006}
    assert rule.values_after({"x": 0.006, "y": 1e-7}, {"y": 1.2}) == {"x": 0.006, "y": 1.2e-7}


def test_nothing_happens_during_the_burn_in():
    of = Rule(burn_in_frames=1000, probability=1.0)
    assert decisions(50, frames=999, others=(0.5, 0.9), of=of) == [STAYS] * 50
    assert all(
        each.copied_from == 1 and len(each.factors) == 3
        for each in decisions(50, frames=1000, others=(0.5, 0.9), of=of)
    )


def test_a_decision_depends_on_seed_member_and_evaluation_only():
    draws = {numbers: rule.generator(*numbers).random() for numbers in [(1, 0, 1), (2, 0, 1), (1, 1, 1), (1, 0, 2)]}
    assert len(set(draws.values())) == 4
    assert rule.generator(1, 11, 1).random() != rule.generator(1, 1, 11).random()
    assert draws[1, 0, 1] == rule.generator(1, 0, 1).random() == pytest.approx(0.7108, abs=1)
    assert decisions(20) == decisions(20)

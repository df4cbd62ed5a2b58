"""The fitness of a member: which score, and over which episodes."""

from __future__ import annotations

import pytest

from impala_tf import suites
from impala_tf.experiments.population import fitness

PONG, KRULL = "atari/pong", "atari/krull"


@pytest.mark.parametrize(
    ("tasks", "kind"),
    [
        (["catch"], "mean return"),
        ([PONG], "human-normalized score"),
        ([PONG, KRULL], "mean capped human-normalized score"),
        (suites.env_ids("dmlab30"), "mean capped human-normalized score"),
        (["catch", PONG], "mean return"),
    ],
)
def test_the_kind_follows_from_the_references(tasks, kind):
    assert fitness.kind(tasks) == kind


def test_it_is_the_mean_of_the_returns_since_the_last_evaluation():
    assert fitness.fitness({"catch": (10, -10.0)}, {"catch": (14, -8.0)}) == 0.5


def test_a_single_task_has_its_score_which_is_not_capped():
    random, human = suites.reference_scores(PONG)
    assert fitness.fitness({PONG: (0, 0.0)}, {PONG: (2, 2 * human)}) == pytest.approx(1)
    assert fitness.fitness({PONG: (0, 0.0)}, {PONG: (2, 4 * human - 2 * random)}) == pytest.approx(2)


def test_several_tasks_have_the_mean_of_their_capped_scores():
    _, human = suites.reference_scores(PONG)
    low, high = suites.reference_scores(KRULL)
    now = {PONG: (4, 40 * human), KRULL: (1, (low + high) / 2)}
    assert fitness.fitness({PONG: (0, 0.0), KRULL: (0, 0.0)}, now) == pytest.approx((1 + 0.5) / 2)


def test_dmlab_30_has_the_papers_score():
    names = suites.env_ids("dmlab30")
    returns = {name: 3.0 + number for number, name in enumerate(names)}
    before = {name: (7, 1.0) for name in names}
    now = {name: (9, 1.0 + 2 * mean) for name, mean in returns.items()}
    expected = suites.mean_capped_human_normalised("dmlab30", returns)
    assert fitness.fitness(before, now) == pytest.approx(expected)


def test_there_is_none_before_every_task_has_ended_an_episode():
    before = {PONG: (0, 0.0), KRULL: (3, 5.0)}
    assert fitness.fitness(before, {PONG: (9, 1.0), KRULL: (3, 5.0)}) is None


def test_counts_are_read_from_the_state_of_a_checkpoint():
    assert fitness.counts({"episodes": 3, "return_sum": 1.5}, ["catch"]) == {"catch": (3, 1.5)}
    state = {"episodes": 5, "tasks": {"a": {"episodes": 2, "return_sum": 1.0}, "b": {"episodes": 3, "return_sum": 2.0}}}
    assert fitness.counts(state, ["a", "b"]) == {"a": (2, 1.0), "b": (3, 2.0)}

"""The suites' tasks, their reference scores and the formulas."""

import json
import math
import pathlib
import statistics
import subprocess
import sys

import ale_py.roms
import pytest
from hypothesis import given
from hypothesis import strategies as st

from impala_tf import suites
from impala_tf.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]
SETS = [(suite, references) for suite in suites.SUITES for references in suites.references(suite)]
SCORES = [suites.median_human_normalised, suites.mean_human_normalised, suites.mean_capped_human_normalised]


def data(suite):
    return json.loads((ROOT / "impala_tf" / "suites" / f"{suite}.json").read_text())


def reference_scores(suite, references):
    """Returns {task to train on: (random, human)}, straight from the file."""
    return {task["id"]: (task[references]["random"], task[references]["human"]) for task in data(suite)["tasks"]}


def returns_of(suite, references, fractions):
    """Makes mean returns at these fractions between the random player's and the human's."""
    known = reference_scores(suite, references)
    return {task: random + x * (human - random) for (task, (random, human)), x in zip(known.items(), fractions)}


@st.composite
def suite_and_fractions(draw):
    suite, references = draw(st.sampled_from(SETS))
    number = len(suites.env_ids(suite))
    return suite, references, draw(st.lists(st.floats(-20, 100), min_size=number, max_size=number))


# Tasks


def test_every_game_is_a_rom_of_ale():
    games = [task.removeprefix("atari/") for task in suites.env_ids("atari57")]
    assert len(set(games)) == 57
    assert set(games) <= set(ale_py.roms.get_all_rom_ids())
    assert suites.env_ids("atari57", test=True) == suites.env_ids("atari57")


def test_dmlab30_is_evaluated_on_two_other_levels():
    train, test = suites.env_ids("dmlab30"), suites.env_ids("dmlab30", test=True)
    assert len(set(train)) == len(set(test)) == 30
    assert {(a, b) for a, b in zip(train, test) if a != b} == {
        (f"dmlab/rooms_{name}_train", f"dmlab/rooms_{name}_test")
        for name in ("collect_good_objects", "exploit_deferred_effects")
    }
    groups = {task.removeprefix("dmlab/").partition("_")[0] for task in train}
    assert groups == {"rooms", "language", "lasertag", "natlab", "skymaze", "psychlab", "explore"}


@pytest.mark.parametrize("suite", suites.SUITES)
def test_each_set_of_references_has_a_source_and_every_task(suite):
    content = data(suite)
    assert suites.references(suite)[0] == content["default_references"]
    assert set(suites.references(suite)) == set(content["references"])
    for name, about in content["references"].items():
        assert about["source"] and about["note"]
        for random, human in reference_scores(suite, name).values():
            assert human > random


def test_an_import_is_light():
    code = (
        "import sys; from impala_tf import suites; suites.env_ids('atari57'); "
        "assert not {'tensorflow', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


# How the sets differ


def test_the_sets_of_atari_differ_by_rounding_and_in_video_pinball():
    one, two = (reference_scores("atari57", name) for name in ("dqn_zoo", "two_decimal"))
    assert {game for game in one if any(abs(a - b) > 0.0501 for a, b in zip(one[game], two[game]))} == {
        "atari/video_pinball",
        "atari/space_invaders",
    }
    assert (one["atari/video_pinball"], two["atari/video_pinball"]) == ((16256.9, 17667.9), (0.0, 17667.9))
    assert (one["atari/space_invaders"], two["atari/space_invaders"]) == ((148.0, 1668.7), (148.3, 1668.7))


def test_the_sets_of_dmlab_differ_by_rounding_and_in_lasertag_where_small_and_large_are_exchanged():
    paper, code = (reference_scores("dmlab30", name) for name in ("table_b1", "scalable_agent"))

    def rounded_from(task, other):
        return all(abs(a - b) < 0.0501 for a, b in zip(paper[task], code[other]))

    assert {task for task in paper if not rounded_from(task, task)} == {t for t in paper if "lasertag" in t}
    for task in paper:
        if "lasertag" in task:
            small, large = ("small", "large") if task.endswith("small") else ("large", "small")
            assert rounded_from(task, task.replace(small, large))


# The formulas


def test_human_normalised_by_hand():
    assert suites.human_normalised("atari/breakout", 787.34) == pytest.approx((787.34 - 1.72) / 28.78)
    assert suites.human_normalised("atari/breakout", 787.34, "dqn_zoo") == pytest.approx((787.34 - 1.7) / 28.8)
    assert suites.human_normalised("atari/skiing", -17098.09) == 0
    for level in ("train", "test"):
        score = suites.human_normalised(f"dmlab/rooms_collect_good_objects_{level}", 5.8)
        assert score == pytest.approx(5.7 / 9.9)
    assert suites.human_normalised("dmlab/lasertag_one_opponent_small", 2.5, "scalable_agent") == pytest.approx(
        2.724 / 12.874
    )


@pytest.mark.parametrize("env_id", ["catch", "atari/carnival", "dmlab/seekavoid_arena_01", "gymnasium/ALE/Pong-v5", ""])
def test_without_references_there_is_no_score(env_id):
    assert suites.human_normalised(env_id, 1.0) is None


@given(st.sampled_from(SETS), st.data(), st.floats(-20, 100))
def test_scores_are_linear_with_random_at_0_and_human_at_1(suite_and_set, drawn, fraction):
    suite, references = suite_and_set
    task = drawn.draw(st.sampled_from(suites.env_ids(suite)))
    random, human = reference_scores(suite, references)[task]
    assert suites.human_normalised(task, random, references) == 0.0
    assert suites.human_normalised(task, human, references) == 1.0
    mean_return = random + fraction * (human - random)
    assert suites.human_normalised(task, mean_return, references) == pytest.approx(fraction, abs=1e-6)


@given(suite_and_fractions())
def test_scores_of_a_suite_are_those_of_its_fractions(drawn):
    suite, references, fractions = drawn
    returns = returns_of(suite, references, fractions)
    expected = [
        sorted(fractions)[14:16] if len(fractions) == 30 else [sorted(fractions)[28]],
        fractions,
        [x if x < 1 else 1 for x in fractions],
    ]
    for score, values in zip(SCORES, expected):
        assert score(suite, returns, references) == pytest.approx(sum(values) / len(values), abs=1e-6)


@given(suite_and_fractions(), st.floats(0, 50))
def test_the_cap(drawn, more):
    """Scores above a human's add nothing to the mean, and scores below it add in full."""
    suite, references, fractions = drawn

    def capped(values):
        return suites.mean_capped_human_normalised(suite, returns_of(suite, references, values), references)

    assert capped(fractions) <= min(1.0, statistics.fmean(fractions)) + 1e-9
    assert capped([x + more if x >= 1 else x for x in fractions]) == pytest.approx(capped(fractions), abs=1e-6)
    raised = capped([fractions[0] + more, *fractions[1:]]) - capped(fractions)
    assert raised == pytest.approx((min(1, fractions[0] + more) - min(1, fractions[0])) / len(fractions), abs=1e-6)


@given(suite_and_fractions())
def test_the_order_of_the_returns_does_not_matter(drawn):
    suite, references, fractions = drawn
    returns = returns_of(suite, references, fractions)
    for score in SCORES:
        assert score(suite, returns, references) == score(suite, dict(reversed(returns.items())), references)


def test_the_default_is_the_first_set():
    for suite in suites.SUITES:
        first, second = suites.references(suite)
        returns = returns_of(suite, first, [0.5] * len(suites.env_ids(suite)))
        for score in SCORES:
            assert score(suite, returns) == score(suite, returns, first)
        assert suites.mean_human_normalised(suite, returns) != suites.mean_human_normalised(suite, returns, second)


# Errors


@pytest.mark.parametrize("score", SCORES)
def test_a_missing_task_is_named(score):
    returns = dict.fromkeys(suites.env_ids("dmlab30"), 1.0)
    del returns["dmlab/natlab_fixed_large_map"]
    returns["dmlab/rooms_watermaze"] = math.nan  # No game has ended yet.
    with pytest.raises(UserError, match=r"missing: dmlab/rooms_watermaze, dmlab/natlab_fixed_large_map\."):
        score("dmlab30", returns)
    with pytest.raises(UserError, match="all 57 tasks; missing: atari/alien, atari/amidar, "):
        score("atari57", {})


@pytest.mark.parametrize("score", SCORES)
def test_test_levels_are_scored_as_a_whole_or_not_at_all(score):
    test = dict.fromkeys(suites.env_ids("dmlab30", test=True), 3.0)
    train = dict.fromkeys(suites.env_ids("dmlab30"), 3.0)
    assert score("dmlab30", test) == score("dmlab30", train)
    with pytest.raises(
        UserError, match=r"dmlab/rooms_collect_good_objects_train, .*: not a task of dmlab30 to evaluate on"
    ):
        score("dmlab30", {**test, **train})


def test_errors_for_unknown_names_list_the_known_ones():
    with pytest.raises(UserError, match="Unknown suite 'atari26': choose one of atari57, dmlab30"):
        suites.env_ids("atari26")
    with pytest.raises(UserError, match="Unknown reference scores 'dqn_zoo' of dmlab30: choose one of table_b1, scala"):
        suites.human_normalised("dmlab/rooms_watermaze", 1.0, "dqn_zoo")
    with pytest.raises(UserError, match="atari/carnival: not a task of atari57 to train on"):
        suites.mean_human_normalised(
            "atari57", {**dict.fromkeys(suites.env_ids("atari57"), 1.0), "atari/carnival": 1.0}
        )

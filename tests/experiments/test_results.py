"""What runs have reached: the table of their curves, scores, aggregates with intervals, verdicts."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from impala_tf.errors import UserError
from impala_tf.experiments import results
from impala_tf.experiments.catalogue.grid import Agent, Claim, Experiment, Grid, Task

A, B = "x/a", "x/b"
AGENTS = Agent("A", "", A, {}), Agent("B", "", B, {})
TASKS = (
    Task("one", {"env": "catch", "total_frames": 1000}, random=-0.6),
    Task("two", {"env": "memory", "total_frames": 1000}, random=4.0),
)
SEEDS = {f"seed_{seed}": {"seed": seed} for seed in range(1, 6)}
GRID = Grid(AGENTS, TASKS, SEEDS)


def log(folder, rows, name="progress.csv"):
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(folder / name, index=False, lineterminator="\r\n")


def curve(frames, last, first=0.0):
    """Rows of a run that gets from a return to another."""
    means = np.linspace(first, last, len(frames))
    return {"frames": frames, "seconds": np.arange(len(frames)), "mean_return_100": means}


def table(finals, repeats=SEEDS):
    """A table of the final returns {agent: [repeats, tasks]}; runs that are NaN are missing."""
    rows = []
    for agent, returns in finals.items():
        for repeat, own in zip(repeats, returns):
            for task, last in zip(TASKS, own):
                # What comes before the last row is higher, so that nobody takes the best instead.
                rows += [(agent, task.name, repeat, frames, last + 1000 - frames) for frames in (10, 1000)]
    return pd.DataFrame(rows, columns=results.COLUMNS).dropna()


# The table


def test_the_first_and_the_last_row_of_a_long_run_are_kept(tmp_path):
    frames = np.arange(10, 1010, 10)
    log(tmp_path / "x/a/one/seed_1", curve(frames, 0.123456789, first=-1.0))
    log(tmp_path / "x/a/one/seed_2", curve([10, 500, 1040], 2.0))
    found = results.collect(GRID, tmp_path)
    assert list(found) == results.COLUMNS and set(found["agent"]) == {"x/a"} and set(found["task"]) == {"one"}
    long, short = (rows for _, rows in found.groupby("repeat"))
    assert len(long) == 30 and (long["frames"].iloc[0], long["frames"].iloc[-1]) == (10, 1000)
    assert (long["mean_return_100"].iloc[0], long["mean_return_100"].iloc[-1]) == (-1.0, 0.1235)
    assert long["frames"].is_monotonic_increasing and long["frames"].diff().max() <= 40  # Evenly thinned.
    assert short[["frames", "mean_return_100"]].to_numpy().tolist() == [[10, 0], [500, 1], [1040, 2]]


def test_runs_that_have_not_finished_or_ended_no_episode_are_left_out(tmp_path):
    log(tmp_path / "x/a/one/seed_1", curve([10, 999], 1.0))
    log(tmp_path / "x/a/one/seed_2", {"frames": [10, 1000], "seconds": [1, 2], "mean_return_100": [math.nan] * 2})
    log(tmp_path / "x/a/one/seed_3", curve([], 1.0))
    (tmp_path / "x/a/one/seed_4").mkdir()
    assert results.collect(GRID, tmp_path).equals(pd.DataFrame(columns=results.COLUMNS))
    rows = {"frames": [10, 500, 1000], "seconds": [1, 2, 3], "mean_return_100": [math.nan, 3.0, 4.0]}
    log(tmp_path / "x/b/two/seed_5", rows)
    assert results.collect(GRID, tmp_path).to_numpy().tolist() == [
        ["x/b", "two", "seed_5", 500, 3.0],
        ["x/b", "two", "seed_5", 1000, 4.0],
    ]


def test_a_run_of_several_tasks_has_its_curves_in_tasks_csv(tmp_path):
    together = dataclasses.replace(AGENTS[0], folder="x/both", together=True)
    grid = dataclasses.replace(GRID, agents=(together, AGENTS[1]))
    log(tmp_path / "x/both/seed_1", curve([10, 2000], 77.0))
    log(tmp_path / "x/both/seed_2", curve([10, 1999], 77.0))  # It needs the frames of both tasks.
    rows = {"frames": [10, 10, 2000, 2000], "task": ["catch", "memory"] * 2, "mean_return_100": [1.0, 2.0, 3.0, 4.0]}
    for seed in (1, 2):
        log(tmp_path / f"x/both/seed_{seed}", rows, "tasks.csv")
    log(tmp_path / "x/both/seed_3", curve([10, 2000], 77.0))  # Its tasks.csv is missing.
    log(tmp_path / "x/b/two/seed_1", curve([10, 1000], 5.0))
    found = results.collect(grid, tmp_path)
    assert found.groupby(["agent", "task", "repeat"])["mean_return_100"].last().to_dict() == {
        ("x/both", "one", "seed_1"): 3.0,
        ("x/both", "two", "seed_1"): 4.0,
        ("x/b", "two", "seed_1"): 5.0,
    }
    assert results.scores(found, together.folder, grid).to_numpy().tolist() == [[1.0, 0.0]]


def test_a_table_is_read_as_it_was_written(tmp_path):
    made = table({A: [[1.0, 5.0]] * 3})
    made["repeat"] = [f"0{number}" for number in range(len(made))]  # Names, not numbers.
    results.write(made, tmp_path / "new" / "a.csv")
    assert results.read(tmp_path / "new" / "a.csv").equals(made.reset_index(drop=True))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/a\.csv cannot be written: "):
        results.write(made, tmp_path / "file" / "a.csv")


# Scores


RETURNS = st.lists(
    st.lists(st.one_of(st.floats(-5, 5).map(lambda x: round(x, 3)), st.just(math.nan)), min_size=2, max_size=2),
    min_size=1,
    max_size=5,
)


@given(RETURNS, RETURNS)
def test_scores_are_those_of_a_slow_computation(first, second):
    """0: random; 1: the best final return of all agents' runs on the task. A repeat that lacks a task has none."""
    first = [[1.0, 9.0], *first][:5]
    data = table({A: first, B: second})
    for agent, returns in ((A, first), (B, second)):
        expected = []
        for own in returns:
            if not any(map(math.isnan, own)):
                best = [np.nanmax([run[i] for run in [*first, *second]]) for i in (0, 1)]
                expected.append([(own[i] - TASKS[i].random) / (best[i] - TASKS[i].random) for i in (0, 1)])
        found = results.scores(data, agent, GRID)
        assert (found.dtypes == np.float64).all() and found.shape == (len(expected), 2)
        np.testing.assert_allclose(found, np.array(expected).reshape(-1, 2), atol=1e-9)


def test_an_agent_without_runs_has_no_scores():
    data = table({A: [[1.0, 5.0], [0.0, 6.0]]})
    assert results.scores(data, B, GRID).shape == (0, 2)
    only_one = data[data["task"] == "one"]
    assert results.scores(only_one, A, GRID).shape == (0, 2)


def test_where_nobody_is_better_than_random_there_are_no_scores():
    """The best run would have 1, and the others more."""
    data = table({A: [[1.0, 4.0], [0.0, 3.0]], B: [[1.0, 3.5]]})
    assert results.scores(data, A, GRID).shape == results.scores(data, B, GRID).shape == (0, 2)


@given(RETURNS, st.floats(0.1, 100), st.floats(-100, 100))
def test_scores_do_not_depend_on_where_returns_begin_and_their_unit(returns, scale, shift):
    returns = [[1.0, 9.0], *returns][:5]
    moved = dataclasses.replace(
        GRID, tasks=tuple(dataclasses.replace(task, random=scale * task.random + shift) for task in TASKS)
    )
    other = table({A: (scale * np.array(returns) + shift).tolist()})
    np.testing.assert_allclose(results.scores(other, A, moved), results.scores(table({A: returns}), A, GRID), atol=1e-6)


# Aggregates and intervals


@pytest.mark.parametrize("shape", [(5, 4), (24, 1), (3, 3), (2, 1)])
def test_the_value_is_the_interquartile_mean_of_all_runs(shape):
    stats = pytest.importorskip("scipy.stats")
    scores = np.random.default_rng(3).normal(size=shape) ** 3
    assert results.estimate(scores).value == pytest.approx(stats.trim_mean(scores, 0.25, axis=None))
    other = np.random.default_rng(4).normal(size=shape)
    by = stats.trim_mean(scores, 0.25, axis=None) - stats.trim_mean(other, 0.25, axis=None)
    assert results.difference(scores, other).value == pytest.approx(by)


def test_the_value_is_the_mean_of_the_best_3_of_each_task():
    scores = np.random.default_rng(3).normal(size=(24, 2))
    best = [sorted(scores[:, task], reverse=True)[:3] for task in (0, 1)]
    assert results.estimate(scores, best=3).value == pytest.approx(np.mean(best))
    assert results.difference(scores, scores + 1, best=3).value == pytest.approx(-1)
    assert results.estimate(np.array([[0.0], [3.0], [1.0], [2.0]]), best=3).value == 2


def slow_interval(samples, aggregate, resamples=6000, paired=False):
    """The 95% interval of the first sample's aggregate, or of the difference to the second's."""
    random, values = np.random.default_rng(99), []
    for _ in range(resamples):
        drawn, rows = [], None
        for scores in samples:
            if rows is None or not paired:
                rows = [random.choice(len(scores), len(scores)) for _ in range(scores.shape[1])]
            drawn.append(aggregate(np.stack([scores[own, task] for task, own in enumerate(rows)], axis=1)))
        values.append(drawn[0] - sum(drawn[1:]))
    return np.quantile(values, (0.025, 0.975))


def iqm(scores):
    ordered, cut = np.sort(scores, axis=None), scores.size // 4
    return ordered[cut : scores.size - cut].mean()


def best_3(scores):
    return np.sort(scores, axis=0)[-3:].mean()


@pytest.mark.parametrize(("best", "aggregate"), [(0, iqm), (3, best_3)], ids=["interquartile mean", "best 3"])
def test_the_interval_is_that_of_a_slow_bootstrap_over_the_runs_of_each_task(best, aggregate):
    """Tasks of different levels: a bootstrap that mixed them would have a wider interval."""
    random = np.random.default_rng(7)
    first = random.normal([0.0, 5.0], 1.0, size=(10, 2))
    second = random.normal([1.0, 2.0], 0.5, size=(10, 2))
    for samples, found in (
        ((first,), results.estimate(first, best)),
        ((first, second), results.difference(first, second, best)),
    ):
        low, high = slow_interval(samples, aggregate)
        assert found.low < found.value < found.high
        # From one draw of the resamples to the next, the ends differ by 2 or 3 hundredths of the width.
        np.testing.assert_allclose([found.low, found.high], [low, high], atol=0.1 * (high - low))


@pytest.mark.parametrize(("best", "aggregate"), [(0, iqm), (3, best_3)], ids=["interquartile mean", "best 3"])
def test_pairs_are_resampled_together(best, aggregate):
    """Two agents that differ little with the same hyperparameters, which themselves matter much."""
    random = np.random.default_rng(7)
    first = random.normal([0.0, 5.0], 1.0, size=(24, 2))
    second = first - random.normal(0.2, 0.1, size=(24, 2))
    low, high = slow_interval((first, second), aggregate, paired=True)
    found = results.difference(first, second, best, paired=True)
    np.testing.assert_allclose([found.low, found.high], [low, high], atol=0.1 * (high - low))
    assert found.low > 0 > results.difference(first, second, best).low


def test_the_same_runs_have_the_same_interval_whatever_was_drawn_before():
    scores = np.random.default_rng(7).normal(size=(5, 4))
    np.random.seed(3)
    first = results.estimate(scores)
    after = np.random.random()
    assert results.estimate(scores) == first
    np.random.seed(3)
    assert np.random.random() == after  # Nor does it change what others draw.


# Verdicts


def experiment(best=0):
    return Experiment("x", "X", {"machine": GRID}, (Claim("A beats B.", "x/a", "x/b", best),))


def judged(finals, best=0):
    return results.judge(experiment(best), "machine", table(finals))[0]


HIGH = [[0.9, 8.0], [1.0, 9.0], [0.8, 8.5], [0.9, 8.0], [1.0, 8.5]]
LOW = [[0.1, 5.0], [0.0, 5.5], [0.2, 5.0], [0.1, 5.5], [0.0, 5.0]]


@pytest.mark.parametrize("best", [0, 2])
def test_a_claim_is_confirmed_or_contradicted_where_the_interval_of_the_difference_excludes_0(best):
    confirmed, contradicted = judged({A: HIGH, B: LOW}, best), judged({A: LOW, B: HIGH}, best)
    assert (confirmed.word, contradicted.word) == ("confirmed", "contradicted")
    assert 0 < confirmed.difference.low < confirmed.difference.high and contradicted.difference.high < 0
    assert confirmed.runs == 5 and confirmed.claim.text == "A beats B."
    found = confirmed.difference
    expected = f"confirmed: difference of scores {found.value:.2f} ({found.low:.2f} to {found.high:.2f})"
    assert str(confirmed) == expected


def test_a_claim_is_undecided_where_the_interval_holds_0():
    mixed = [[0.0, 5.0], [1.0, 9.0], [0.5, 7.0], [0.9, 8.0], [0.1, 6.0]]
    found = judged({A: mixed, B: [[one, two - 0.3] for one, two in mixed]})
    assert found.word == "undecided" and found.difference.low < 0 < found.difference.high
    same = judged({A: [[1.0, 9.0]] * 5, B: [[1.0, 9.0]] * 5})
    assert same.word == "undecided" and same.difference == (0, 0, 0)


def test_agents_of_a_sweep_are_compared_over_the_combinations_that_both_have():
    sweep = dataclasses.replace(
        GRID, repeats={f"{number:02}": {"learning_rate": 0.001, "seed": number} for number in range(24)}
    )
    assert sweep.sweep and not GRID.sweep
    returns = np.random.default_rng(7).uniform([0.0, 5.0], [1.0, 9.0], size=(24, 2))
    data = table({A: returns, B: returns - 0.01}, sweep.repeats)
    claim = Claim("A beats B.", A, B)
    assert results.judge(Experiment("x", "X", {"machine": sweep}, (claim,)), "machine", data)[0].word == "confirmed"
    unpaired = dataclasses.replace(sweep, repeats={repeat: {"seed": 1} for repeat in sweep.repeats})
    assert results.judge(Experiment("x", "X", {"machine": unpaired}, (claim,)), "machine", data)[0].word == "undecided"
    gaps = data[((data["agent"] == A) | (data["repeat"] < "20")) & ((data["agent"] == B) | (data["repeat"] > "03"))]
    (found,) = results.judge(Experiment("x", "X", {"machine": sweep}, (claim,)), "machine", gaps)
    assert found.runs == 16 and found.word == "confirmed"


@pytest.mark.parametrize(
    ("finals", "best", "runs"),
    [
        ({A: HIGH, B: LOW[:4]}, 0, 4),
        ({A: HIGH[:4], B: LOW}, 3, 4),
        ({A: HIGH}, 0, 0),
        ({A: HIGH, B: [*LOW[:3], [0.1, math.nan], [math.nan, 5.0]]}, 0, 3),
    ],
)
def test_a_claim_is_undecided_with_too_few_runs(finals, best, runs):
    found = judged(finals, best)
    assert (found.word, found.difference, found.runs) == ("undecided", None, runs)
    assert str(found) == "undecided: not enough runs"

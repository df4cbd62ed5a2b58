"""Tests how the notebooks read, rank and average runs and evaluations."""

import json
import pathlib
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impala_tf import suites
from impala_tf.experiments import catalogue

FOLDER = pathlib.Path(__file__).parents[2] / "paper_figures"
sys.path.append(str(FOLDER))
import reading  # noqa: E402


def run(returns, frames=None, name="run", **columns):
    frames = 10.0 * np.arange(1, len(returns) + 1) if frames is None else frames
    rows = {"frames": frames, "seconds": 36.0 * np.arange(len(returns)), "mean_return_100": returns, **columns}
    return reading.Run(name, pd.DataFrame(rows))


def write(folder, returns, env=None, **columns):
    folder.mkdir(parents=True)
    run(returns, **columns).progress.to_csv(folder / "progress.csv", index=False)
    if env:
        (folder / "config.json").write_text(json.dumps({"env": env}))


# Runs


def test_reads_runs_of_impala_train():
    six = reading.read_run(reading.DATA / "atari_six")
    assert six.name == "atari_six" and six.config["total_frames"] == 10_000_000
    frames, score = six.curve("human_normalised_median")
    assert len(frames) == len(score) < len(six.progress)  # The first rows have no score yet.
    assert np.isfinite(score).all() and frames[-1] == 10_001_920
    assert six.final("human_normalised_median") == pytest.approx(0.0494, abs=1e-4)
    assert np.median(six.final_by_task()) == six.final("human_normalised_median")
    assert reading.read_run(reading.DATA / "pong_shallow").tasks is None


def test_hours():
    hours, returns = run([1.0, 2.0, 3.0]).curve(against="hours")
    np.testing.assert_allclose(hours, [0, 0.01, 0.02])
    np.testing.assert_array_equal(returns, [1, 2, 3])


def test_set_of_runs(tmp_path):
    assert reading.read_runs(tmp_path / "missing") == []
    write(tmp_path / "b", [1.0])
    write(tmp_path / "a", [2.0])
    write(tmp_path / "just_started", [])
    (tmp_path / "empty").mkdir()
    (tmp_path / "starting").mkdir()
    (tmp_path / "starting" / "progress.csv").touch()
    assert [run.name for run in reading.read_runs(tmp_path)] == ["a", "b"]


def test_only_runs_that_played_the_task_are_drawn_under_its_name(tmp_path, capsys):
    write(tmp_path / "00", [1.0], "dmlab/rooms_watermaze")
    write(tmp_path / "01", [2.0], "dmlab/seekavoid_arena_01")
    write(tmp_path / "02", [3.0])
    runs = reading.read_runs(tmp_path, "dmlab/rooms_watermaze")
    assert [run.name for run in runs] == ["00"]
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 2 and "01 is not drawn: it played dmlab/seekavoid_arena_01, not dmlab/rooms_watermaze" in out[0]


def test_own_runs_are_found_by_what_they_played(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "RUNS", tmp_path / "none")
    assert reading.own_runs("atari/pong") == {}
    monkeypatch.setattr(reading, "RUNS", tmp_path)
    write(tmp_path / "pong", [1.0], "atari/pong")
    write(tmp_path / "pong" / "earlier-1", [1.0], "atari/pong")
    write(tmp_path / "pong_but_not_really", [1.0], "catch")
    write(tmp_path / "a" / "b", [2.0], "atari/pong")
    write(tmp_path / "several", [2.0], "atari/pong,atari/krull")
    write(tmp_path / "just_started", [], "atari/pong")
    assert list(reading.own_runs("atari/pong")) == ["a/b", "pong"]
    assert list(reading.own_runs("atari/krull,atari/pong")) == ["several"]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.one_of(st.just(float("nan")), st.floats(-100, 100)), max_size=8), st.integers(1, 5))
def test_best_runs_have_the_highest_final_returns(finals, k):
    runs = [run([1000.0, final], name=str(i)) for i, final in enumerate(finals)]
    expected = sorted((1000.0 if np.isnan(final) else final for final in finals), reverse=True)
    assert reading.sorted_finals(runs) == expected
    assert [r.final() for r in reading.best(runs, k)] == expected[:k]


def test_runs_without_a_value_are_not_among_the_best():
    assert reading.best([run([float("nan")]), run([1.0])], 2)[0].final() == 1.0
    assert len(reading.best([run([float("nan")]), run([1.0])], 2)) == 1
    assert reading.best([run([1.0])], column="human_normalised") == []


def test_mean_curve_covers_where_all_runs_have_values():
    first = run([0.0, 10.0, 20.0], frames=[0.0, 10.0, 20.0])
    second = run([float("nan"), 1.0, 4.0], frames=[0.0, 5.0, 35.0])
    frames, returns = reading.mean_curve([first, second], points=4)
    np.testing.assert_allclose(frames, [5, 10, 15, 20])
    np.testing.assert_allclose(returns, [(5 + 1) / 2, (10 + 1.5) / 2, (15 + 2) / 2, (20 + 2.5) / 2])


def test_experts_together():
    nan = float("nan")
    runs = [
        run([nan, 1.0, 2.0], human_normalised=[nan, 0.5, 3.0])._replace(config={"env": "dmlab/a"}),
        run([1.0, 1.0, 1.0], human_normalised=[0.1, 0.2, 0.3])._replace(config={"env": "dmlab/b"}),
    ]
    together = reading.together(runs)
    frames, score = together.curve("human_normalised_mean_capped")
    assert (frames[0], frames[-1]) == (2 * 20, 2 * 30)  # Starts where both have a score.
    assert (score[0], score[-1]) == pytest.approx(((0.5 + 0.2) / 2, (1.0 + 0.3) / 2))
    assert together.curve("human_normalised_mean_capped", "hours")[0][-1] == pytest.approx(2 * 72 / 3600)
    assert together.final_by_task().to_dict() == {"dmlab/a": 3.0, "dmlab/b": 0.3}  # Not capped.


def test_evaluations(tmp_path):
    def result(**means):
        return json.dumps({"tasks": {f"atari/{game}": {"mean": mean} for game, mean in means.items()}})

    (tmp_path / "experts").mkdir()
    (tmp_path / "experts" / "pong.json").write_text(result(pong=20.5))
    (tmp_path / "experts" / "alien.json").write_text(result(alien=1000.0))
    (tmp_path / "multi_task.json").write_text(result(pong=-3.0, alien=500.0))
    (tmp_path / "notes.txt").touch()
    assert reading.read_evaluations(tmp_path / "missing", tmp_path) == {
        "experts": {"atari/pong": 20.5, "atari/alien": 1000.0},
        "multi_task": {"atari/pong": -3.0, "atari/alien": 500.0},
    }


# Experiments


def test_runs_of_an_agent_are_where_the_catalogue_says(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reading, "RUNS", tmp_path)
    grid = catalogue.find("table_2").grids["paper"]
    agent, task = grid.agents[5], grid.tasks[1]
    assert reading.runs_of(grid, agent, task) == []
    folder = tmp_path / "paper" / "table_2" / "one_step_replay" / "rooms_keys_doors_puzzle"
    write(folder / "03", [1.0], "dmlab/rooms_keys_doors_puzzle")
    write(folder / "04", [2.0], "catch")
    write(folder.parent / "rooms_watermaze" / "03", [3.0], "dmlab/rooms_watermaze")
    assert [run.final() for run in reading.runs_of(grid, agent, task)] == [1.0]
    assert "04 is not drawn: it played catch, not dmlab/rooms_keys_doors_puzzle" in capsys.readouterr().out
    assert [run.final() for run in reading.runs_of(grid, agent, grid.tasks[0])] == [3.0]


def test_runs_of_an_agent_that_trains_on_all_tasks(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reading, "RUNS", tmp_path)
    grid = catalogue.find("figure_5").grids["paper"]
    (agent,) = (agent for agent in grid.agents if agent.label == "A3C, deep")
    folder = tmp_path / "paper" / "figure_5" / "a3c_deep"
    write(folder / "00", [1.0], "dmlab30")
    write(folder / "01", [2.0], ",".join(reversed(suites.env_ids("dmlab30"))))
    write(folder / "02", [3.0], "atari57")
    assert [run.final() for run in reading.runs_of(grid, agent)] == [1.0, 2.0]
    assert len(capsys.readouterr().out.partition(": ")[2]) < 120  # Does not list 30 levels.


def test_folders_of_an_experiment_are_named_once():
    assert reading.folders("figure_5") == "runs/paper/figure_5"
    assert reading.folders("figure_4") == "runs/paper/table_2 and runs/paper/figure_4"


def test_dmlab30_runs_are_sorted_best_first(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "RUNS", tmp_path)
    folder = tmp_path / "paper" / "figure_5"
    for agent, name, score in (("impala_deep", "00", 0.1), ("impala_deep", "01", 0.3), ("a3c_deep", "00", 0.2)):
        write(folder / agent / name, [1.0], "dmlab30", human_normalised_mean_capped=[score])
    write(folder / "impala_deep" / "02", [1.0], "atari57", human_normalised_mean_capped=[0.9])
    for env in suites.env_ids("dmlab30")[:2]:
        level = folder / "impala_experts_deep" / env.partition("/")[2]
        write(level / "00", [1.0, 2.0], env, human_normalised=[0.1, 0.2])
        write(level / "07", [1.0, 2.0], env, human_normalised=[0.3, 0.4])
    write(level / "08", [1.0], "catch", human_normalised=[1.0])
    found = reading.dmlab30_runs()
    assert list(found) == list(reading.paper("figure_5")["curves"])
    assert {agent: [its.name for its in runs] for agent, runs in found.items() if runs} == {
        "IMPALA, deep": ["01", "00"],
        "A3C, deep": ["00"],
        "IMPALA-Experts, deep": ["experts", "experts"],
    }
    best, second = found["IMPALA-Experts, deep"]
    assert best.final_by_task().to_dict() == dict.fromkeys(suites.env_ids("dmlab30")[:2], 0.4)
    assert set(second.final_by_task()) == {0.2}


# The paper's numbers


@pytest.mark.parametrize("file", sorted(reading.DATA.glob("*_*.json")), ids=lambda file: file.stem)
def test_paper_numbers_have_a_source(file):
    data = reading.paper(file.stem)
    assert "arXiv 1802.01561v3" in data["source"]
    assert ("confidence" in data) or file.stem in ("table_3", "table_4", "table_b1", "table_c1")


def test_figure_4():
    data, grid = reading.paper("figure_4"), catalogue.find("figure_4").grids["paper"]
    assert set(data["tasks"]) == {task.name for task in grid.tasks} == set(reading.paper("table_2")["tasks"])
    for task in data["tasks"].values():
        assert {len(curve) for curve in task["curves"].values()} == {len(data["frames"])} == {20}
        for finals in task["sorted_final_returns"].values():
            assert len(finals) == 24 and finals == sorted(finals, reverse=True)
        assert set(task["curves"]) == set(task["sorted_final_returns"]) == {agent.label for agent in grid.agents}


def test_figures_5_and_6_end_with_the_same_scores():
    by_frames, by_hours = reading.paper("figure_5"), reading.paper("figure_6")
    experiment = catalogue.find("figure_5")
    agents = {agent.label for agent in experiment.grids["paper"].agents} | set(experiment.populations)
    assert set(by_frames["curves"]) == set(by_hours["curves"]) == agents
    for agent, curve in by_hours["curves"].items():
        assert curve["end"]["score"] == pytest.approx(by_frames["curves"][agent][-1], abs=0.02)
        hours = [*filter(None, curve["hours_to_score"]), curve["end"]["hours"]]
        assert hours == sorted(hours)
        reached = [hour is not None for hour in curve["hours_to_score"]]
        assert reached == [score <= max(by_frames["curves"][agent]) + 0.2 for score in by_hours["scores"]]


def test_figure_e1_variants_agree_at_lag_0_up_to_noise():
    for variants in reading.paper("figure_e1")["tasks"].values():
        on_policy = [lags["0"]["mean_last_5pct"] for lags in variants.values()]
        assert max(on_policy) < 1.1 * min(on_policy)

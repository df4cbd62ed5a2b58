"""Tests how the notebooks read, rank and average runs and evaluations, and what they draw and save."""

import itertools
import json
import pathlib
import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impala_tf import suites

FOLDER = pathlib.Path(__file__).parents[2] / "paper_figures"
with matplotlib.rc_context():  # Importing it changes matplotlib's settings, which must not affect other tests.
    sys.path.append(str(FOLDER))
    import plotting
    import tables


@pytest.fixture(autouse=True)
def look():
    with matplotlib.rc_context(plotting.STYLE):
        yield
    plt.close("all")


def run(returns, frames=None, name="run", **columns):
    frames = 10.0 * np.arange(1, len(returns) + 1) if frames is None else frames
    rows = {"frames": frames, "seconds": 36.0 * np.arange(len(returns)), "mean_return_100": returns, **columns}
    return plotting.Run(name, pd.DataFrame(rows))


def write(folder, returns, env=None, **columns):
    folder.mkdir(parents=True)
    run(returns, **columns).progress.to_csv(folder / "progress.csv", index=False)
    if env:
        (folder / "config.json").write_text(json.dumps({"env": env}))


# Runs


def test_reads_runs_of_impala_train():
    six = plotting.read_run(plotting.DATA / "atari_six")
    assert six.name == "atari_six" and six.config["total_frames"] == 10_000_000
    frames, score = six.curve("human_normalised_median")
    assert len(frames) == len(score) < len(six.progress)  # The first rows have no score yet.
    assert np.isfinite(score).all() and frames[-1] == 10_001_920
    assert six.final("human_normalised_median") == pytest.approx(0.0494, abs=1e-4)
    assert np.median(six.final_by_task()) == six.final("human_normalised_median")
    assert plotting.read_run(plotting.DATA / "pong_shallow").tasks is None


def test_hours():
    hours, returns = run([1.0, 2.0, 3.0]).curve(against="hours")
    np.testing.assert_allclose(hours, [0, 0.01, 0.02])
    np.testing.assert_array_equal(returns, [1, 2, 3])


def test_set_of_runs(tmp_path):
    assert plotting.read_runs(tmp_path / "missing") == []
    write(tmp_path / "b", [1.0])
    write(tmp_path / "a", [2.0])
    write(tmp_path / "just_started", [])
    (tmp_path / "empty").mkdir()
    (tmp_path / "starting").mkdir()
    (tmp_path / "starting" / "progress.csv").touch()
    assert [run.name for run in plotting.read_runs(tmp_path)] == ["a", "b"]


def test_only_runs_that_played_the_task_are_drawn_under_its_name(tmp_path, capsys):
    write(tmp_path / "00", [1.0], "dmlab/rooms_watermaze")
    write(tmp_path / "01", [2.0], "dmlab/seekavoid_arena_01")
    write(tmp_path / "02", [3.0])
    runs = plotting.read_runs(tmp_path, "dmlab/rooms_watermaze")
    assert [run.name for run in runs] == ["00"]
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 2 and "01 is not drawn: it played dmlab/seekavoid_arena_01, not dmlab/rooms_watermaze" in out[0]


def test_own_runs_are_found_by_what_they_played(tmp_path, monkeypatch):
    monkeypatch.setattr(plotting, "RUNS", tmp_path / "none")
    assert plotting.own_runs("atari/pong") == {}
    monkeypatch.setattr(plotting, "RUNS", tmp_path)
    write(tmp_path / "pong", [1.0], "atari/pong")
    write(tmp_path / "pong" / "earlier-1", [1.0], "atari/pong")
    write(tmp_path / "pong_but_not_really", [1.0], "catch")
    write(tmp_path / "a" / "b", [2.0], "atari/pong")
    write(tmp_path / "several", [2.0], "atari/pong,atari/krull")
    write(tmp_path / "just_started", [], "atari/pong")
    assert list(plotting.own_runs("atari/pong")) == ["a/b", "pong"]
    assert list(plotting.own_runs("atari/krull,atari/pong")) == ["several"]


def test_own_runs_are_drawn_next_to_that_of_the_repository(tmp_path, monkeypatch):
    monkeypatch.setattr(plotting, "RUNS", tmp_path)
    _, (alone, both) = plt.subplots(1, 2)
    assert plotting.one_machine(alone, "pong_shallow", "Pong") == 0
    write(tmp_path / "mine", [1.0, 2.0], "atari/pong")
    assert plotting.one_machine(both, "pong_shallow", "Pong", against="hours") == 1
    assert len(alone.lines) == 1 and alone.get_legend() is None
    assert [line.get_label() for line in both.lines] == ["mine", "in the repository"]
    np.testing.assert_allclose(both.lines[0].get_data(), [[0, 0.01], [1, 2]])
    assert both.lines[0].get_color() != both.lines[1].get_color() == alone.lines[0].get_color()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.one_of(st.just(float("nan")), st.floats(-100, 100)), max_size=8), st.integers(1, 5))
def test_best_runs_have_the_highest_final_returns(finals, k):
    runs = [run([1000.0, final], name=str(i)) for i, final in enumerate(finals)]
    expected = sorted((1000.0 if np.isnan(final) else final for final in finals), reverse=True)
    assert plotting.sorted_finals(runs) == expected
    assert [r.final() for r in plotting.best(runs, k)] == expected[:k]


def test_runs_without_a_value_are_not_among_the_best():
    assert plotting.best([run([float("nan")]), run([1.0])], 2)[0].final() == 1.0
    assert len(plotting.best([run([float("nan")]), run([1.0])], 2)) == 1
    assert plotting.best([run([1.0])], column="human_normalised") == []


def test_mean_curve_covers_where_all_runs_have_values():
    first = run([0.0, 10.0, 20.0], frames=[0.0, 10.0, 20.0])
    second = run([float("nan"), 1.0, 4.0], frames=[0.0, 5.0, 35.0])
    frames, returns = plotting.mean_curve([first, second], points=4)
    np.testing.assert_allclose(frames, [5, 10, 15, 20])
    np.testing.assert_allclose(returns, [(5 + 1) / 2, (10 + 1.5) / 2, (15 + 2) / 2, (20 + 2.5) / 2])


def test_experts_together():
    nan = float("nan")
    runs = [
        run([nan, 1.0, 2.0], human_normalised=[nan, 0.5, 3.0])._replace(config={"env": "dmlab/a"}),
        run([1.0, 1.0, 1.0], human_normalised=[0.1, 0.2, 0.3])._replace(config={"env": "dmlab/b"}),
    ]
    together = plotting.together(runs)
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
    assert plotting.read_evaluations(tmp_path / "missing", tmp_path) == {
        "experts": {"atari/pong": 20.5, "atari/alien": 1000.0},
        "multi_task": {"atari/pong": -3.0, "atari/alien": 500.0},
    }


# The paper's numbers


@pytest.mark.parametrize("file", sorted(plotting.DATA.glob("*_*.json")), ids=lambda file: file.stem)
def test_paper_numbers_have_a_source(file):
    data = plotting.paper(file.stem)
    assert "arXiv 1802.01561v3" in data["source"]
    assert ("confidence" in data) or file.stem in ("table_3", "table_4", "table_b1", "table_c1")


def test_figure_4():
    data = plotting.paper("figure_4")
    assert set(data["tasks"]) == set(plotting.LAB_LEVELS) == set(plotting.paper("table_2")["tasks"])
    for task in data["tasks"].values():
        assert {len(curve) for curve in task["curves"].values()} == {len(data["frames"])} == {20}
        for finals in task["sorted_final_returns"].values():
            assert len(finals) == 24 and finals == sorted(finals, reverse=True)
        assert set(task["curves"]) == set(task["sorted_final_returns"]) <= set(plotting.COLORS)


def test_figures_5_and_6_end_with_the_same_scores():
    by_frames, by_hours = plotting.paper("figure_5"), plotting.paper("figure_6")
    assert list(by_frames["curves"]) == list(by_hours["curves"]) == list(plotting.DMLAB30_FOLDERS)
    for agent, curve in by_hours["curves"].items():
        assert curve["end"]["score"] == pytest.approx(by_frames["curves"][agent][-1], abs=0.02)
        hours = [*filter(None, curve["hours_to_score"]), curve["end"]["hours"]]
        assert hours == sorted(hours)
        reached = [hour is not None for hour in curve["hours_to_score"]]
        assert reached == [score <= max(by_frames["curves"][agent]) + 0.2 for score in by_hours["scores"]]


def test_figure_e1_variants_agree_at_lag_0_up_to_noise():
    for variants in plotting.paper("figure_e1")["tasks"].values():
        on_policy = [lags["0"]["mean_last_5pct"] for lags in variants.values()]
        assert max(on_policy) < 1.1 * min(on_policy)


# Figures


def written(figure):
    return [text.get_text() for text in figure.texts]


def test_figure_without_runs_says_so():
    figure = plt.figure()
    plotting.heading_of_runs(figure, "Figure 0", "runs/figure_0", 0)
    assert written(figure) == ["Figure 0", "no runs in runs/figure_0: only the paper's reference"]
    figure = plt.figure()
    plotting.heading_of_runs(figure, "Figure 0", "runs/figure_0", 2, "dashed: Table 0")
    assert written(figure) == ["Figure 0", "2 runs in runs/figure_0 (solid); dashed: Table 0"]


def test_heading_is_above_the_panels():
    figure, ax = plt.subplots(figsize=(5, 2))
    ax.set_title("panel")
    plotting.heading_of_runs(figure, "Figure 0", "runs/figure_0", 0)
    plotting.legend(figure, list(plotting.COLORS)[:2])
    figure.draw_without_rendering()
    title, stamp, panel = (text.get_window_extent() for text in (*figure.texts, ax.title))
    assert figure.bbox.y1 >= title.y1 > title.y0 >= stamp.y1 > stamp.y0 >= panel.y1
    assert figure.legends[0].get_window_extent().y1 <= ax.get_tightbbox().y0


def test_pictures_are_reproducible(tmp_path, monkeypatch):
    pictures = []
    for folder in (tmp_path / "1", tmp_path / "new" / "2"):
        monkeypatch.setattr(plotting, "FIGURES", folder)
        figure, ax = plt.subplots()
        ax.plot([1, 2], [3, 4], label="a")
        ax.legend()
        plotting.save(figure, "picture")
        pictures.append([(folder / f"picture.{ending}").read_bytes() for ending in ("png", "svg")])
    assert pictures[0] == pictures[1]
    assert pictures[0][0].startswith(b"\x89PNG") and b"<dc:date>" not in pictures[0][1]
    assert plt.get_fignums() == []


def test_table_draws_all_cells_without_overlap():
    rows = ["group", ["iiiiiiii", 1234567.5, None], ["a name that is longer", 0.1, "5,270 (4,600 to 5,406)"]]
    figure = tables.draw("A title\nof two lines", ["", "a\nheader", "b"], rows, "A note.", own_columns=1)
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    cells = ["group", "iiiiiiii", "1,234,567.5", "-", "a name that is longer", "0.1", "5,270 (4,600 to 5,406)"]
    assert sorted(text.get_text() for text in texts) == sorted(
        ["A title\nof two lines", "A note.", "a\nheader", "b", *cells]
    )
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in texts]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
    assert {text.get_text() for text in texts if text.get_color() == plotting.BLUE} == {"b", "-", cells[-1]}


def test_dmlab30_runs_are_sorted_best_first(tmp_path, monkeypatch):
    monkeypatch.setattr(plotting, "RUNS", tmp_path)
    folder = tmp_path / "figure_5"
    for agent, name, score in (("impala_deep", "00", 0.1), ("impala_deep", "01", 0.3), ("a3c_deep", "00", 0.2)):
        write(folder / agent / name, [1.0], "dmlab30", human_normalised_mean_capped=[score])
    write(folder / "impala_deep" / "02", [1.0], "atari57", human_normalised_mean_capped=[0.9])
    for env in suites.env_ids("dmlab30")[:2]:
        expert = folder / "impala_experts_deep" / "00" / env.partition("/")[2]
        write(expert, [1.0, 2.0], env, human_normalised=[0.1, 0.2])
    found = plotting.dmlab30_runs()
    assert {agent: [its.name for its in runs] for agent, runs in found.items() if runs} == {
        "IMPALA, deep": ["01", "00"],
        "A3C, deep": ["00"],
        "IMPALA-Experts, deep": ["experts"],
    }

"""Tests what the notebooks draw and save."""

import dataclasses
import itertools
import json
import pathlib
import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from impala_tf.experiments import catalogue, results

FOLDER = pathlib.Path(__file__).parents[2] / "paper_figures"
with matplotlib.rc_context():  # Importing it changes matplotlib's settings, which must not affect other tests.
    sys.path.append(str(FOLDER))
    import plotting
    import reading
    import tables


@pytest.fixture(autouse=True)
def look():
    with matplotlib.rc_context(plotting.STYLE):
        yield
    plt.close("all")


def write(folder, returns, env=None, last_frame=40):
    folder.mkdir(parents=True)
    frames = np.linspace(last_frame / 4, last_frame, len(returns), dtype=int)
    rows = {"frames": frames, "seconds": 36.0 * np.arange(len(returns)), "mean_return_100": returns}
    pd.DataFrame(rows).to_csv(folder / "progress.csv", index=False)
    if env:
        (folder / "config.json").write_text(json.dumps({"env": env}))


def written(figure):
    return [text.get_text() for text in figure.texts]


# Runs on one machine


def test_own_runs_are_drawn_next_to_that_of_the_repository(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "RUNS", tmp_path)
    _, (alone, both) = plt.subplots(1, 2)
    assert plotting.one_machine(alone, "pong_shallow", "Pong") == 0
    write(tmp_path / "mine", [1.0, 2.0], "atari/pong")
    assert plotting.one_machine(both, "pong_shallow", "Pong", against="hours") == 1
    assert len(alone.lines) == 1 and alone.get_legend() is None
    assert [line.get_label() for line in both.lines] == ["mine", "in the repository"]
    np.testing.assert_allclose(both.lines[0].get_data(), [[0, 0.01], [1, 2]])
    assert both.lines[0].get_color() != both.lines[1].get_color() == alone.lines[0].get_color()


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A folder without data and runs."""
    monkeypatch.setattr(reading, "DATA", tmp_path / "data")
    monkeypatch.setattr(reading, "RUNS", tmp_path / "runs")
    return tmp_path


def curves(figure):
    """{color: mean return at the end} of the curves in the first panel."""
    return {line.get_color(): line.get_ydata()[-1] for line in figure.axes[0].lines}


def test_experiment_without_runs_on_one_machine_says_so(empty):
    figure = plotting.on_one_machine("table_2")
    title, note = written(figure)
    assert title.startswith("Table 2") and note == "no runs yet: impala-experiment run table_2"


def test_experiment_on_one_machine_draws_the_repository_s_runs_or_else_ones_own(empty):
    grid = catalogue.find("figure_e2").grids["machine"]
    for height, run in enumerate(itertools.islice(grid.runs(), len(grid.agents))):
        write(empty / "runs" / "machine" / run.folder, [0.0, float(height)], last_frame=run.settings["total_frames"])
    assert list(curves(plotting.on_one_machine("figure_e2")).values()) == [0, 1, 2, 3]
    one = dataclasses.replace(grid, agents=grid.agents[2:3])
    kept = results.collect(one, empty / "runs" / "machine")
    results.write(kept, empty / "data" / "one_machine" / "figure_e2.csv")
    figure = plotting.on_one_machine("figure_e2")
    assert list(curves(figure).values()) == [2]
    assert "Figure E.2" in figure.get_suptitle() and "on one machine" in figure.get_suptitle()


# Figures


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

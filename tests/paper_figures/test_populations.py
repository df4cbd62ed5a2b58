"""Figures 5, 6 and F.1 of a population: the ancestry of its best member."""

import pathlib
import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "paper_figures"
with matplotlib.rc_context():  # Importing it changes matplotlib's settings, which must not affect other tests.
    sys.path.append(str(FOLDER))
    import populations
    import reading

COLUMNS = "time,member,evaluation,frames,fitness,episodes,learning_rate,copied_from,copied_evaluation,perturbed"
ROWS = """\
1,0,1,100,0.2,9,0.001,,,,100,60
2,1,1,110,0.1,9,0.01,0,1,learning_rate*1.2,110,60
3,1,2,210,0.5,9,0.0012,,,,210,120
4,0,2,190,-inf,9,0.001,1,2,,190,120
5,0,3,300,0.9,9,0.0012,,,,280,180
"""


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "paper" / "figure_5" / "impala_deep_pbt"
    made.mkdir(parents=True)
    (made / "population.csv").write_text(f"{COLUMNS},frames_trained,seconds\n{ROWS}")
    return made


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_the_best_agent_is_followed_through_its_copies(folder):
    agent = populations.best_agent(populations.read(folder))
    assert agent["frames"].tolist() == [100, 210, 300] and agent["fitness"].tolist() == [0.2, 0.5, 0.9]
    assert agent["learning_rate"].tolist() == [0.001, 0.0012, 0.0012]
    assert agent["seconds"].tolist() == [60, 120, 180]
    assert agent["human_normalised_mean_capped"].tolist() == agent["fitness"].tolist()


def test_figure_5_finds_populations_among_its_agents(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "RUNS", tmp_path)
    (run,) = reading.dmlab30_runs()["IMPALA, deep, PBT"]
    frames, score = run.curve("human_normalised_mean_capped")
    assert frames.tolist() == [100, 210, 300] and score.tolist() == [0.2, 0.5, 0.9]
    assert run.curve("learning_rate", "hours")[0] == pytest.approx(np.array([60, 120, 180]) / 3600)


def test_curve_and_schedule_are_drawn(folder):
    figure, (curve, schedule) = plt.subplots(1, 2)
    rows = populations.read(folder)
    populations.draw_curve(curve, rows, "red", scale=1)
    (line,) = curve.lines
    assert line.get_xdata().tolist() == [100, 210, 300] and line.get_ydata() == pytest.approx([20, 50, 90])
    populations.draw_schedule(schedule, rows, "red", scale=1)
    lines = [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in schedule.lines]
    assert lines[-1] == ([100, 210, 300], [0.001, 0.0012, 0.0012])
    assert ([100, 210], [0.001, 0.0012]) in lines  # From what was copied to the copy.
    assert ([110], [0.01]) in lines and ([100, 190], [0.001, 0.001]) in lines  # Members' own, broken at a copy.
    del figure


def test_a_folder_without_a_population_has_none(tmp_path):
    assert populations.read(tmp_path) is None
    (tmp_path / "population.csv").write_text(f"{COLUMNS}\n")
    assert populations.read(tmp_path) is None


def test_a_population_is_drawn_beside_a_sweep(folder):
    data = reading.DATA / "pbt"
    figure = populations.against_sweep({"factor 1.2": data / "factor_1.2"}, data / "sweep", "learning_rate")
    _, _, fixed = figure.axes
    assert [text.get_text() for text in fixed.get_legend().get_texts()] == ["3e-05", "0.0001", "0.0003", "0.3"]
    assert len(fixed.lines) == 4

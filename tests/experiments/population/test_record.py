"""population.csv: what is written is read again, and the ancestry follows copies backwards."""

from __future__ import annotations

import math

import matplotlib.figure
import pandas as pd
import pytest

from impala_tf.errors import UserError
from impala_tf.experiments.population import picture
from impala_tf.experiments.population.member import Evaluation
from impala_tf.experiments.population.record import Record, best
from impala_tf.experiments.population.rule import STAYS, Decision

NAMES = ("learning_rate", "entropy_cost")
VALUES = {"learning_rate": 1e-05, "entropy_cost": 0.1 + 0.2}


def evaluation(member, number, fitness=0.5, frames=None):
    return Evaluation(member, number, frames or 100 * number, fitness, 10, 90 * number, 1.5 * number, False)


@pytest.fixture
def record(tmp_path):
    """Member 1 copies member 0's first evaluation after its own second; member 0 copies member 1's third after its
    own second."""
    made = Record(tmp_path / "population.csv", NAMES, 1.2)
    copied = Decision(0, {"learning_rate": 1.2, "entropy_cost": 1 / 1.2})
    for each, decision in [
        (evaluation(0, 1), STAYS),
        (evaluation(1, 1), Decision(None, {"entropy_cost": 1.2})),
        (evaluation(1, 2, -math.inf), copied),
        (evaluation(1, 3, 0.8), STAYS),
        (evaluation(0, 2, 0.1), Decision(1, {})),
        (evaluation(0, 3, 0.9), STAYS),
    ]:
        made.add(each, 1000.125, VALUES, decision)
    return made


def test_rows_are_read_as_they_were_written(record, tmp_path):
    again = Record(tmp_path / "population.csv", NAMES, 1.2)
    assert again.rows == record.rows and len(again.rows) == 6
    assert again.find(1, 2).copied == (0, 1) and again.find(1, 2).goes_on_from == (0, 1)
    assert again.find(1, 2).factors == {"learning_rate": 1.2, "entropy_cost": 1 / 1.2}
    assert again.find(1, 2).values == VALUES and again.find(1, 2).fitness == -math.inf
    assert again.find(1, 1).copied is None and again.find(1, 1).goes_on_from == (1, 1)
    assert again.find(1, 4) is None and again.last(1).evaluation == 3
    again.add(evaluation(1, 4), 1.0, VALUES, STAYS)
    assert len(Record(tmp_path / "population.csv", NAMES, 1.2).rows) == 7


def test_pandas_reads_the_columns(record, tmp_path):
    rows = pd.read_csv(tmp_path / "population.csv")
    assert list(rows) == [
        *("time", "member", "evaluation", "frames", "fitness", "episodes", *NAMES),
        *("copied_from", "copied_evaluation", "perturbed", "frames_trained", "seconds"),
    ]
    assert rows["perturbed"].dropna().tolist() == ["entropy_cost*1.2", "learning_rate*1.2 entropy_cost/1.2"]


@pytest.mark.parametrize(("member", "expected"), [(0, [(0, 1), (1, 3), (0, 3)]), (1, [(0, 1), (1, 3)])])
def test_the_ancestry_follows_copies_backwards(record, tmp_path, member, expected):
    assert [(row.member, row.evaluation) for row in record.ancestry(member)] == expected
    drawn = picture.ancestry(pd.read_csv(tmp_path / "population.csv"), member)
    assert list(zip(drawn["member"], drawn["evaluation"])) == expected


def test_the_best_is_the_one_with_the_highest_last_fitness(record, tmp_path):
    assert best(record.rows, [0, 1]) == 0 and best(record.rows, [1]) == 1 and best([], [0, 1]) is None
    drawn = picture.ancestry(pd.read_csv(tmp_path / "population.csv"))
    assert drawn.iloc[-1][["member", "evaluation"]].tolist() == [0, 3]


def test_a_last_line_that_is_cut_off_is_dropped(record, tmp_path):
    path = tmp_path / "population.csv"
    text = path.read_text()
    path.write_text(text[:-7])
    again = Record(path, NAMES, 1.2)
    assert again.rows == record.rows[:-1]
    again.add(evaluation(0, 3, 0.9), 1000.125, VALUES, STAYS)
    assert path.read_text() == text


def test_a_damaged_file_and_one_of_other_settings_are_named(record, tmp_path):
    path = tmp_path / "population.csv"
    with pytest.raises(UserError, match=r"population with the columns time, .* give another --output"):
        Record(path, ("learning_rate",), 1.2)
    path.write_text(path.read_text().replace("1000.125,1,3", "x,1,3"))
    with pytest.raises(UserError, match=r"line 5, is not a row of a population"):
        Record(path, NAMES, 1.2)


def test_the_picture_is_drawn(record, tmp_path):
    picture.draw(tmp_path / "population.csv", tmp_path / "picture.png", NAMES, "score", 4)
    assert (tmp_path / "picture.png").stat().st_size > 5000


def test_single_evaluations_are_points_and_settings_steps(tmp_path):
    figure = matplotlib.figure.Figure()
    rows = pd.DataFrame(
        {
            **{"member": [0, 1, 1], "evaluation": [1, 1, 2], "frames": [10, 10, 20], "fitness": [0.5, 0.1, 0.2]},
            **{"rate": [0.1, 0.2, 0.4], "copied_from": math.nan, "copied_evaluation": math.nan},
        }
    )
    fitness, rate = figure.subplots(1, 2)
    picture.draw_column(fitness, rows, "fitness")
    picture.draw_column(rate, rows, "rate")
    for ax, style in ((fitness, "default"), (rate, "steps-pre")):  # Both members, and the ancestry: member 0 alone.
        assert [line.get_marker() for line in ax.lines] == ["o", "", "o"]
        assert {line.get_drawstyle() for line in ax.lines} == {style}

"""The runs of a sweep: which are waiting, sweep.csv, the table and the picture. `run/test_sweep_run.py` trains them."""

from __future__ import annotations

import shutil
import threading

import pandas as pd
import pytest

from impala_tf import config as config_lib
from impala_tf.errors import UserError
from impala_tf.experiments import sweep_picture
from impala_tf.experiments.sweep_runs import Sweep
from impala_tf.experiments.training_runs import FAILED, FINISHED, WAITING

CONFIG = config_lib.from_values({"env": "catch", "total_frames": 1000})
VALUES = [{"learning_rate": rate, "core": core} for rate, core in ((0.001, "none"), (0.01, "lstm"), (0.1, "none"))]


def lay(sweep, number, frames, mean):
    """What a run leaves."""
    each = sweep.combinations[number]
    each.logdir.check(each.config)
    with each.logdir.lock():
        each.logdir.prepare(each.config)
    (each.logdir.checkpoints / f"{frames:012}").mkdir(parents=True)
    each.logdir.progress.write_text(f"frames,seconds,mean_return_100\n10,1,0.0\n{frames},5,{mean}\n")


@pytest.fixture
def sweep(tmp_path):
    """One has finished, one was interrupted, one has failed."""
    made = Sweep(tmp_path, CONFIG, VALUES)
    made.prepare()
    lay(made, 0, 1000, 0.5)
    lay(made, 1, 400, 0.75)
    made = Sweep(tmp_path, CONFIG, VALUES)
    made.combinations[2].state, made.combinations[2].error = FAILED, "no such game"
    made.write()
    return made


def test_what_has_finished_is_known_and_nothing_is_started_for_it(sweep, tmp_path):
    assert [each.state for each in Sweep(tmp_path, CONFIG, VALUES).combinations] == [FINISHED, WAITING, WAITING]
    only = Sweep(tmp_path / "only", CONFIG, VALUES[:1])
    only.prepare()
    lay(only, 0, 1000, 0.5)
    only = Sweep(tmp_path / "only", CONFIG, VALUES[:1])
    only.run(1, threading.Event(), 1.0)
    assert not (only.combinations[0].logdir.logs / "output.txt").exists()


def test_sweep_csv_has_a_row_for_each_run(sweep, tmp_path):
    rows = pd.read_csv(tmp_path / "sweep.csv")
    assert list(rows) == [
        *("combination", "learning_rate", "core", "state", "frames", "final_return", "score", "seconds", "error"),
    ]
    assert rows["state"].tolist() == [FINISHED, WAITING, FAILED] and rows["frames"].tolist() == [1000, 400, 0]
    assert rows["final_return"].tolist()[:2] == [0.5, 0.75] and rows["final_return"].isna()[2]
    assert rows["error"][2] == "no such game"


def test_the_table_has_the_highest_return_first_and_names_failures(sweep):
    head, *lines, failure = sweep.table().splitlines()
    assert head.split() == ["combination", "learning_rate", "core", "state", "frames", "final_return", "seconds"]
    assert [line.split()[0] for line in lines] == ["1", "0", "2"]
    assert failure == "combination 2 failed: no such game"


def test_the_picture_is_drawn_once_there_is_a_curve(sweep, tmp_path):
    assert sweep_picture.draw(sweep.combinations, tmp_path / "a.png") and (tmp_path / "a.png").stat().st_size > 5000
    assert not sweep_picture.draw(sweep.combinations[2:], tmp_path / "b.png") and not (tmp_path / "b.png").exists()


def test_another_sweep_in_the_folder_is_refused(sweep, tmp_path):
    with pytest.raises(UserError, match=r"sweep.csv belongs to a sweep with other values \(3 there, 2 now\)"):
        Sweep(tmp_path, CONFIG, VALUES[:2])
    with pytest.raises(UserError, match=r"combination 0: learning_rate 0.001 there, 0.01 now"):
        Sweep(tmp_path, CONFIG, VALUES[1:])
    other = config_lib.from_values({**config_lib.to_values(CONFIG), "batch_size": 8})
    with pytest.raises(UserError, match=r"--output=.* other settings: --batch_size: 32 there, 8 now") as raised:
        Sweep(tmp_path, other, VALUES)
    assert "--logdir" not in str(raised.value)


def test_rows_may_be_appended(sweep, tmp_path):
    longer = Sweep(tmp_path, CONFIG, [*VALUES, {"learning_rate": 0.2, "core": "none"}])
    longer.prepare()
    assert [each.state for each in longer.combinations] == [FINISHED, WAITING, WAITING, WAITING]
    assert pd.read_csv(tmp_path / "sweep.csv")["learning_rate"].tolist() == [0.001, 0.01, 0.1, 0.2]


def test_a_line_that_is_missing_from_sweep_csv_is_named(sweep, tmp_path):
    lines = (tmp_path / "sweep.csv").read_text().splitlines(keepends=True)
    (tmp_path / "sweep.csv").write_text("".join([*lines[:2], *lines[3:]]))
    with pytest.raises(UserError, match=r"sweep.csv is damaged: its rows are not combinations 0, 1, 2"):
        Sweep(tmp_path, CONFIG, VALUES)


def test_a_populations_folder_is_refused(tmp_path):
    (tmp_path / "population.json").write_text("{}")
    with pytest.raises(UserError, match="holds a population"):
        Sweep(tmp_path, CONFIG, VALUES)


def test_settings_that_contradict_each_other_are_those_of_a_row(tmp_path):
    values = [{"correction": "v_trace", "rho_bar": 2.0}, {"correction": "none", "rho_bar": 2.0}]
    with pytest.raises(UserError, match=r"combination 1 \(row 3\): --correction=none does not use --rho_bar"):
        Sweep(tmp_path, CONFIG, values)


def test_a_folder_that_is_removed_meanwhile_is_an_error_in_one_line(sweep, tmp_path):
    shutil.rmtree(tmp_path)
    with pytest.raises(UserError, match=r"sweep.csv cannot be written: No such file or directory\. The sweep ends"):
        sweep.write()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--output=.*/file/sweep cannot be written: Not a directory"):
        Sweep(tmp_path / "file" / "sweep", CONFIG, VALUES).prepare()

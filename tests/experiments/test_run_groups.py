"""Runs in folders: which are found, which belong together, and their mean with its interval."""

from __future__ import annotations

import pathlib
import sys

import numpy as np
import pytest

from impala_tf.errors import UserError
from impala_tf.experiments import run_groups
from impala_tf.experiments.run_groups import Curve
from impala_tf.records.csv_file import CSVFile

sys.path.append(str(pathlib.Path(__file__).parent))

import run_folders

NAN = float("nan")


def read(*paths, names=(), column="mean_return_100", against="frames"):
    return run_groups.read(run_groups.find([str(path) for path in paths], names), column, against)


def summary(groups):
    """[(environment, label, final values)]."""
    return [(group.panel, group.label, sorted(group.finals)) for group in groups]


def test_seeds_are_one_group_and_other_settings_are_others(tmp_path):
    for rate in (0.003, 0.0005, 0.1234567891):
        for seed in (1, 2):
            folder = tmp_path / f"{rate}" / f"seed_{seed}"
            # Neither the interval of the log, nor the time to wait, makes another group.
            run_folders.write(folder, [0, rate + seed], seed=seed, learning_rate=rate, log_interval=float(seed))
    run_folders.write(tmp_path / "memory", [5], env="memory", learning_rate=0.003)
    groups, without = read(tmp_path)
    assert without == [] and summary(groups) == [
        ("catch", "learning_rate=0.0005", [1.0005, 2.0005]),
        ("catch", "learning_rate=0.003", [1.003, 2.003]),
        ("catch", "learning_rate=0.123", [1.1234567891, 2.1234567891]),
        ("memory", "learning_rate=0.003", [5]),
    ]
    assert summary(read(tmp_path / "memory")[0]) == [("memory", "", [5])]


def test_labels_tell_all_groups_apart(tmp_path):
    for number, rate in enumerate((0.0012345678, 0.0012345999)):
        run_folders.write(tmp_path / f"{number}", [number], learning_rate=rate, core="lstm")
    run_folders.write(tmp_path / "others" / "1", [8], learning_rate=0.0012345678, core="none")
    labels = [label for _, label, _ in summary(read(tmp_path / "0", tmp_path / "1")[0])]
    assert labels == ["learning_rate=0.00123457", "learning_rate=0.0012346"]
    assert len({label for _, label, _ in summary(read(tmp_path)[0])}) == 3


def test_names_of_the_arguments(tmp_path):
    """They come first; settings follow only where runs under the same name differ."""
    for name, returns, settings in (
        ("a", [1], {"seed": 1}),
        ("b", [2], {"seed": 1}),
        ("c/1", [3], {"correction": "none"}),
        ("c/2", [4], {"correction": "v_trace"}),
    ):
        run_folders.write(tmp_path / name, returns, **settings)
    found = summary(read(*(tmp_path / name for name in "abc"), names=["new", "new", "a"])[0])
    assert found == [
        ("catch", "new", [1, 2]),
        ("catch", "a, correction=none", [3]),
        ("catch", "a, correction=v_trace", [4]),
    ]
    with pytest.raises(UserError, match="--label has 1 names for 2 RUN arguments"):
        read(tmp_path / "a", tmp_path / "b", names=["new"])


def test_each_run_is_found_once_and_without_what_was_set_aside(tmp_path):
    run_folders.write(tmp_path / "runs" / "x", [1])
    run_folders.write(tmp_path / "runs" / "x" / "earlier-1", [2])
    (tmp_path / "link").symlink_to(tmp_path / "runs" / "x")
    assert summary(read(tmp_path / "runs", tmp_path / "runs" / "x", tmp_path / "link")[0]) == [("catch", "", [1])]


def test_several_tasks_have_a_panel_each_where_their_log_has_the_column(tmp_path):
    logdir = run_folders.write(tmp_path / "x", [1, 2], env="catch,memory")
    log = CSVFile(logdir.tasks, 0)
    for frames in (1000, 2000):
        for task, value in (("catch", frames / 1000), ("memory", frames / 100)):
            log.write({"frames": frames, "task": task, "mean_return_100": value})
    log.close()
    assert summary(read(tmp_path)[0]) == [("catch", "", [2]), ("memory", "", [20])]
    hours = read(tmp_path, against="hours")[0][1].curves[0]
    assert list(hours.x) == [1, 2] and list(hours.y) == [10, 20]
    assert summary(read(tmp_path, column="entropy")[0]) == [("catch,memory", "", [0.5])]


def test_runs_without_a_value_are_left_out(tmp_path):
    run_folders.write(tmp_path / "none", [NAN, NAN])
    run_folders.write(tmp_path / "late", [NAN, 3])
    groups, without = read(tmp_path)
    assert [run.logdir.path.name for run in without] == ["none"]
    assert groups[0].curves[0].frames == 2000 and list(groups[0].curves[0].x) == [2000]


def test_mistakes_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    for path, message in (("empty", "has no run in it or below it: no progress.csv"), ("nowhere", "is no folder")):
        with pytest.raises(UserError, match=f"{path} {message}"):
            read(tmp_path / path)
    logdir = run_folders.write(tmp_path / "x", [1])
    with pytest.raises(
        UserError, match=r"No run has a column 'mean_retrun'\. Did you mean mean_return_100\? There are"
    ):
        read(tmp_path, column="mean_retrun")
    logdir.progress.write_text("frames,mean_return_100\n1,2\nthree,4\n")
    with pytest.raises(UserError, match=r"progress\.csv, line 3"):
        read(tmp_path)
    logdir.progress.write_text("frames,mean_return_100\n1,2\n")
    with pytest.raises(UserError, match="has no column 'seconds'"):
        read(tmp_path, against="hours")
    logdir.config.unlink()
    with pytest.raises(UserError, match=r"it has no config\.json"):
        read(tmp_path)


def curve(x, y):
    return Curve(np.array(x, float), np.array(y, float), int(x[-1]))


def test_the_mean_ends_where_the_first_run_does():
    mean = run_groups.band([curve([0, 10], [0, 10]), curve([2, 8, 20], [4, 10, 10])])
    assert (mean.x[0], mean.x[-1], mean.half) == (2, 10, None)
    np.testing.assert_allclose(mean.mean[[0, -1]], [(2 + 4) / 2, 10])
    alone = run_groups.band([curve([1, 2, 7], [1, 5, 3])])
    assert list(alone.x) == [1, 2, 7] and list(alone.mean) == [1, 5, 3] and alone.half is None
    assert run_groups.band([curve([0, 1], [0, 1]), curve([2, 3], [0, 1])]) is None


@pytest.mark.parametrize(("freedom", "quantile"), [(2, 4.3027), (9, 2.2622), (10, 2.2281), (23, 2.0687), (99, 1.9842)])
def test_the_quantiles_are_student_s(freedom, quantile):
    assert run_groups._student(freedom) == pytest.approx(quantile, abs=1e-3)


def test_the_interval_has_the_mean_in_it_as_often_as_it_says():
    values = np.random.default_rng(1).normal(size=(5, 20_000))
    inside = np.abs(values.mean(0)) < run_groups.half_width(values)
    assert inside.mean() == pytest.approx(0.95, abs=0.006)

"""The progress of a run, recomputed from its batches."""

import gc
import json
import logging
import sys
import time
import weakref

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from impala_tf import config as config_lib
from impala_tf import suites
from impala_tf.errors import UserError
from impala_tf.records import csv_file, curve
from impala_tf.records.logdir import LogDir
from impala_tf.records.progress import Progress
from impala_tf.records.tensorboard import TensorBoard
from impala_tf.structures import Batch, Trajectory
from impala_tf.suites import tasks

T, B = 4, 3
GAMES = ("atari/pong", "atari/breakout", "catch")
METRICS = {"x": tf.constant(0.0)}


@pytest.fixture(autouse=True)
def _log_level(caplog):
    caplog.set_level(logging.INFO, logger="impala_tf")


def _batch(returns, acted_at=0, task_ids=(0, 0, 0), fresh=(True,) * B):
    """Makes a batch in which games end with these returns; entry 0 holds one that has been counted before."""
    episode_return, episode_length = np.zeros((T + 1, B), np.float32), np.zeros((T + 1, B), np.int32)
    for i, value in enumerate(returns):
        episode_return[1 + i // B, i % B], episode_length[1 + i // B, i % B] = value, 10 + i
    episode_return[0], episode_length[0] = 1000, 1
    step = tf.constant(np.broadcast_to(acted_at, (T + 1, B)), tf.int64)
    fields = dict.fromkeys(Trajectory._fields, ())
    fields.update(episode_return=tf.constant(episode_return), episode_length=tf.constant(episode_length))
    unrolls = Trajectory(**{**fields, "learner_step": step, "task_id": tf.constant(task_ids)})
    return Batch(unrolls, tf.constant(fresh))


def _progress(path, state=None, total_frames=1000, env="catch"):
    logdir = LogDir(str(path))
    return Progress(logdir, tasks.names(env), 4, total_frames, state), logdir


def test_rows_and_lines_hold_what_happened(tmp_path, caplog):
    progress, logdir = _progress(tmp_path)
    metrics = {"total_loss": tf.constant(2.0), "learning_rate": tf.constant(0.5)}
    progress.add(_batch([1, 2, 6], acted_at=3), 5, 100, metrics, waited=0.0)
    progress.add(_batch([], acted_at=6), 6, 200, {**metrics, "total_loss": tf.constant(4.0)}, waited=0.0)
    progress.report(refused=1)
    progress.close()
    row = pd.read_csv(logdir.progress).iloc[0]
    assert not [name for name in row.index if "replay" in name]
    assert row["frames"] == 200
    assert row["episodes"] == 3
    assert row["mean_return_100"] == pytest.approx(3.0)
    assert row["mean_length_100"] == pytest.approx(11.0)
    assert row["policy_lag_mean"] == pytest.approx(1.0)
    assert row["policy_lag_max"] == 2
    assert row["total_loss"] == pytest.approx(3.0)
    assert row["refused_updates"] == 1
    for part in ("200 frames", "20%", "return 3.00 (3 episodes)", "lag 1.0, max 2", "left", "1 updates refused"):
        assert part in caplog.messages[0]
    assert caplog.record_tuples == [("impala_tf.records.progress", logging.INFO, caplog.messages[0])]


def test_the_progress_line(tmp_path, caplog, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress, _ = _progress(tmp_path, total_frames=10_000)
    for frames in (2000, 4000):
        now[0] += 2.0
        progress.add(_batch([1, 2], acted_at=3), 5, frames, METRICS, waited=0.0)
    progress.report(refused=0)
    progress.close()
    assert caplog.messages == [
        "      4,000 frames ( 40%)    1,000 frames/s  return 1.50 (4 episodes)  lag 2.0, max 2  0m06s left"
    ]


def test_nothing_of_an_update_is_kept(tmp_path):
    """Between two reports, memory does not grow with the number of updates."""
    progress, _ = _progress(tmp_path)
    metrics = {"total_loss": tf.constant(2.0) + 1.0}
    batch = _batch([1], acted_at=3)
    kept = [weakref.ref(metrics["total_loss"]), weakref.ref(batch.unrolls.learner_step)]
    progress.add(batch, 5, 100, metrics, waited=0.0)
    del metrics, batch
    gc.collect()
    assert [reference() for reference in kept] == [None, None]
    progress.close()


def test_the_progress_line_shows_how_the_return_has_changed(tmp_path, caplog):
    progress, _ = _progress(tmp_path, total_frames=200_000_000)
    shown = []

    def add(*returns):
        progress.add(_batch(returns, acted_at=3), 5, 123_456_789, METRICS, waited=0.0)
        progress.report(0)
        shown.append(caplog.messages[-1].split("frames/s  ")[1].split("  lag")[0])

    add()
    for _ in range(9):
        add(*[-20.7] * 11)
    assert shown[0] == "no episode has ended yet" and shown[-1] == "return -20.70 (99 episodes)"
    add(-18.7, 500, 500)  # The first of these completes the first hundred, from which the change is counted.
    assert shown[-1] == "return -10.27 (+10.41 since the start)"
    resumed = json.loads(json.dumps(progress.state()))
    for _ in range(25):
        add(*[1000.0] * 4)
    assert shown[-1] == "return 1000.00 (+1020.68 since the start)"
    assert all(len(line) <= 120 for line in caplog.messages)
    progress.close()

    for first_return, text in (
        (resumed["first_return"], "return -10.27 (+10.41 since the start)"),
        (None, "return -10.27"),  # Of a version that did not keep it.
    ):
        progress, _ = _progress(tmp_path, {**resumed, "first_return": first_return})
        add()
        assert shown[-1] == text
        progress.close()


def test_the_progress_line_shows_the_score_of_a_task_with_references(tmp_path, caplog):
    progress, _ = _progress(tmp_path, total_frames=200_000_000, env="atari/krull")
    for returns in ([2665.5], *[[1598.05] * 3] * 33, *[[5000.0] * 4] * 25):  # Human, random, better than human.
        progress.add(_batch(returns, acted_at=3), 5, 123_456_789, METRICS, waited=0.0)
        progress.report(0)
    shown = [line.split("return ")[1].split("  lag")[0] for line in caplog.messages]
    assert shown[0] == "2665.50 (1 episode, 100% human-normalized)"
    assert shown[33] == "1608.72 (1% human-normalized)"
    assert shown[-1] == "5000.00 (319% human-normalized)"
    progress.close()


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_a_return_that_is_not_finite_ends_the_run(tmp_path, value):
    progress, _ = _progress(tmp_path)
    with pytest.raises(UserError, match=f"before 100 frames had the return {value}"):
        progress.add(_batch([1, value]), 0, 100, METRICS, waited=0.0)
    progress.close()


def test_a_folder_that_is_removed_ends_the_run(tmp_path):
    """At the next report; nothing appears in its place."""
    (tmp_path / "run").mkdir()
    progress, logdir = _progress(tmp_path / "run")
    logdir.config.write_text("{}")
    with logdir.lock():
        progress.add(_batch([1]), 0, 100, METRICS, waited=0.0)
        logdir.path.rename(tmp_path / "moved")
        with pytest.raises(UserError, match="has been removed"):
            progress.report(0)
    progress.close()
    assert [path.name for path in tmp_path.iterdir()] == ["moved"]


def test_only_fresh_unrolls_are_counted(tmp_path, caplog):
    """Replayed ones have been counted when they were fresh."""
    progress, logdir = _progress(tmp_path, env=",".join(GAMES))
    returns, acted_at = [10, 20, 30, 40, 50, 60], [1, 2, 9]  # Columns (10, 40), (20, 50) and (30, 60).
    progress.add(_batch(returns, acted_at, (0, 1, 2), fresh=(True, False, True)), 11, 100, METRICS, waited=0.0)
    progress.add(_batch(returns, acted_at, (0, 1, 2), fresh=(False, False, True)), 11, 150, METRICS, waited=0.0)
    progress.report(0)
    row = pd.read_csv(logdir.progress).iloc[0]
    assert row["episodes"] == 6
    assert row["mean_return_100"] == pytest.approx((10 + 40 + 30 + 60 + 30 + 60) / 6)
    assert row["mean_length_100"] == pytest.approx((10 + 13 + 12 + 15 + 12 + 15) / 6)
    assert row["policy_lag_mean"] == pytest.approx((10 + 2 + 2) / 3)
    assert row["policy_lag_max"] == 10
    # Replayed: column 2 in the first batch, columns 1 and 2 in the second.
    assert row["replay_lag_mean"] == pytest.approx((9 + 10 + 9) / 3)
    assert row["replay_lag_max"] == 10
    rows = pd.read_csv(logdir.tasks).set_index("task")
    assert list(rows["task_frames"]) == [T * 4, 0, 2 * T * 4]
    assert list(rows["episodes"]) == [2, 0, 4]
    assert rows["mean_return_100"]["catch"] == 45 and np.isnan(rows["mean_return_100"]["atari/breakout"])

    progress.add(_batch(returns, acted_at, (0, 1, 2), fresh=(False,) * 3), 12, 150, METRICS, waited=0.0)
    progress.report(0)
    progress.close()
    row = pd.read_csv(logdir.progress).iloc[1]
    assert row["episodes"] == 6 and np.isnan(row["policy_lag_mean"]) and np.isnan(row["policy_lag_max"])
    assert (row["replay_lag_mean"], row["replay_lag_max"]) == (pytest.approx((11 + 10 + 3) / 3), 11)
    assert "no fresh unrolls" in caplog.text


def test_the_mean_is_over_the_last_hundred_games(tmp_path):
    progress, _ = _progress(tmp_path)
    assert np.isnan(progress.mean_return)
    for value in range(150):
        progress.add(_batch([value]), 0, value, {"x": tf.constant(0.0)}, waited=0.0)
    assert progress.mean_return == pytest.approx(np.mean(range(50, 150)))
    assert progress.state()["return_sum"] == sum(range(150))  # Over all of them.
    progress.close()


def test_a_resumed_run_appends_to_the_same_file(tmp_path):
    """Rows past the checkpoint describe training that was lost, and are dropped."""
    metrics = {"x": tf.constant(0.0)}
    progress, logdir = _progress(tmp_path)
    for frames in (100, 200, 300):
        progress.add(_batch([frames]), 0, frames, metrics, waited=0.0)
        progress.report(0)
        if frames == 200:
            state = progress.state()
    progress.close()
    resumed, _ = _progress(tmp_path, state)
    assert resumed.mean_return == pytest.approx(150.0) and resumed.state()["return_sum"] == 300.0
    resumed.add(_batch([]), 0, 250, metrics, waited=0.0)
    resumed.report(0)
    resumed.close()
    rows = pd.read_csv(logdir.progress)
    assert list(rows["frames"]) == [100, 200, 250]
    assert list(rows["episodes"]) == [1, 2, 2]
    assert rows["seconds"].is_monotonic_increasing


def test_a_half_written_last_row_is_dropped(tmp_path):
    progress, logdir = _progress(tmp_path)
    progress.add(_batch([]), 0, 100, {"x": tf.constant(0.0)}, waited=0.0)
    progress.report(0)
    state = progress.state()
    progress.close()
    with open(logdir.progress, "a") as file:
        file.write("1790000000.0,1")
    assert list(csv_file.read(logdir.progress)["frames"]) == [100]
    _progress(tmp_path, state)[0].close()
    assert list(pd.read_csv(logdir.progress)["frames"]) == [100]


def test_numbers_written_to_tensorboard_are_not_kept(tmp_path):
    """TensorFlow keeps every Python number that it turns into a tensor, with the tensor."""
    frames, value = int("123456789"), float("1234.5678")
    before = sys.getrefcount(frames), sys.getrefcount(value)
    tensorboard = TensorBoard(LogDir(str(tmp_path)))
    tensorboard.write({"total_loss": value}, frames)
    tensorboard.close()
    assert (sys.getrefcount(frames), sys.getrefcount(value)) == before


def test_tensorboard_gets_the_same_numbers(tmp_path):
    """With descriptions, once per start and scalar, and with the settings as text and as hyperparameters."""
    progress, logdir = _progress(tmp_path)
    config = config_lib.from_values({"env": "catch", "learning_rate": 0.5, "logdir": str(tmp_path)})
    logdir.prepare(config)
    for frames, value in ((100, 7), (200, 9)):
        progress.add(_batch([value]), 0, frames, {"total_loss": tf.constant(2.0)}, waited=0.0)
        progress.report(0)
    progress.close()
    scalars, descriptions, text, shaping = {}, [], [], []
    for file in logdir.tensorboard.iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                plugin = value.metadata.plugin_data
                if value.tag == "_hparams_/session_start_info":
                    shaping.append(HParamsPluginData.FromString(plugin.content).session_start_info.hparams)
                elif value.tag == "settings":
                    text.append(tf.make_ndarray(value.tensor).item().decode())
                else:
                    scalars[value.tag] = (event.step, float(tf.make_ndarray(value.tensor)))
                    descriptions += [value.tag] * bool(value.metadata.summary_description)
    assert scalars["episode/mean_return_100"] == (200, 8.0)
    assert scalars["loss/total_loss"] == (200, 2.0)
    assert {"speed/fps_10s", "policy_lag/policy_lag_max"} <= scalars.keys()
    assert sorted(descriptions) == sorted(scalars)
    assert len(text) == len(shaping) == 1
    changed, last_start, everything = text[0].split("\n\n### ")
    assert changed.splitlines()[4:] == ["| env | `catch` |", "| learning_rate | `0.5` |"]
    assert "| command | `" in last_start and "impala_tf " in last_start
    assert "| learning_rate | `0.5` |" in everything and "| discount | `0.99` |" in everything
    assert (
        "logdir" not in shaping[0]
        and shaping[0]["learning_rate"].number_value == 0.5
        and shaping[0]["env"].string_value == "catch"
    )


def test_tasks_are_counted_separately(tmp_path, caplog):
    progress, logdir = _progress(tmp_path, env=",".join(GAMES))
    # Returns fill the batch row by row: the first one belongs to the environment of column 0.
    progress.add(_batch([-20, 3, 1, -18], task_ids=(0, 1, 1)), 0, 100, METRICS, waited=0.0)
    progress.report(0)
    rows = pd.read_csv(logdir.tasks).set_index("task")
    assert list(rows.index) == list(GAMES)
    assert list(rows["frames"]) == [100] * 3
    assert list(rows["task_frames"]) == [T * 4, 2 * T * 4, 0]
    assert list(rows["episodes"]) == [2, 2, 0]
    assert list(rows["mean_return_100"])[:2] == [-19, 2] and np.isnan(rows["mean_return_100"]["catch"])
    scores = [suites.human_normalised(game, mean) for game, mean in zip(GAMES, (-19, 2))]
    assert list(rows["human_normalised"])[:2] == pytest.approx(scores)
    # Catch has no reference scores, so the run's scores are those of the two games.
    row = pd.read_csv(logdir.progress).iloc[0]
    assert row["human_normalised_mean"] == pytest.approx(np.mean(scores))
    assert row["human_normalised_median"] == pytest.approx(np.median(scores))
    line = caplog.messages[1]
    assert "pong -19.0" in line and "breakout 2.0" in line and "catch none" in line
    progress.close()
    scalars = {}
    for file in logdir.tensorboard.iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                scalars[value.tag] = float(tf.make_ndarray(value.tensor))
    assert scalars["task_mean_return_100/atari/pong"] == -19
    assert curve.draw(logdir, "three tasks") and logdir.curve.read_bytes().startswith(b"\x89PNG")


def test_the_score_is_capped_by_task_and_nan_until_all_tasks_have_one(tmp_path):
    progress, logdir = _progress(tmp_path, env="atari/pong,atari/breakout")
    progress.add(_batch([-20.7], task_ids=(0, 0, 0)), 0, 100, METRICS, waited=0.0)
    progress.report(0)
    progress.add(_batch([400], task_ids=(1, 1, 1)), 0, 200, METRICS, waited=0.0)
    progress.report(0)
    progress.close()
    capped = pd.read_csv(logdir.progress)["human_normalised_mean_capped"]
    assert np.isnan(capped[0])
    assert capped[1] == pytest.approx((suites.human_normalised("atari/pong", -20.7) + 1) / 2)


def test_tasks_resume_from_the_checkpoint(tmp_path):
    progress, logdir = _progress(tmp_path, env=",".join(GAMES))
    for frames, task in ((100, 0), (200, 2), (300, 0)):
        progress.add(_batch([frames], task_ids=[task] * 3), 0, frames, METRICS, waited=0.0)
        progress.report(0)
        if frames == 200:
            state = json.loads(json.dumps(progress.state()))
    progress.close()
    resumed, _ = _progress(tmp_path, state, env=",".join(GAMES))
    resumed.add(_batch([5], task_ids=[2] * 3), 0, 250, METRICS, waited=0.0)
    resumed.report(0)
    resumed.close()
    rows = pd.read_csv(logdir.tasks)
    assert list(rows["frames"]) == [100] * 3 + [200] * 3 + [250] * 3
    assert list(rows["episodes"][-3:]) == [1, 0, 2]
    assert list(rows["mean_return_100"][-3:])[::2] == [100, 102.5]
    assert [resumed.state()["tasks"][game]["return_sum"] for game in GAMES] == [100, 0, 205]


def test_many_tasks_are_shown_at_a_longer_interval(tmp_path, caplog, monkeypatch):
    now = [1000.0]  # With a fraction, the sum of six intervals might be less than a minute.
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress, _ = _progress(tmp_path, env="atari57")
    for _ in range(13):
        progress.add(_batch([7], task_ids=[5] * 3), 0, 100, METRICS, waited=0.0)
        progress.report(0)
        now[0] += 10
    progress.close()
    shown = [line for line in caplog.messages if "atlantis 7.0" in line]
    assert len(shown) == 3 and all(len(line) <= 120 for text in shown for line in text.splitlines())


def test_one_game_with_references_has_a_score(tmp_path):
    progress, logdir = _progress(tmp_path, env="atari/pong")
    progress.add(_batch([14.6]), 0, 100, METRICS, waited=0.0)
    progress.report(0)
    progress.close()
    assert pd.read_csv(logdir.progress)["human_normalised"][0] == pytest.approx(1.0, abs=0.01)
    assert not logdir.tasks.exists()

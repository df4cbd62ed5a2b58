"""What a run reports, recomputed from the batches that it was told of."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from impala_tf.runtime import curve
from impala_tf.runtime.logdir import LogDir
from impala_tf.runtime.progress import Progress
from impala_tf.structures import Trajectory

T, B = 4, 3


def _batch(returns, acted_at=0):
    """A batch in which games end with these returns; entry 0 holds one that was reported before."""
    episode_return, episode_length = np.zeros((T + 1, B), np.float32), np.zeros((T + 1, B), np.int32)
    for i, value in enumerate(returns):
        episode_return[1 + i // B, i % B], episode_length[1 + i // B, i % B] = value, 10 + i
    episode_return[0], episode_length[0] = 1000, 1
    step = tf.fill([T + 1, B], tf.constant(acted_at, tf.int64))
    fields = dict.fromkeys(Trajectory._fields, ())
    fields.update(episode_return=tf.constant(episode_return), episode_length=tf.constant(episode_length))
    return Trajectory(**{**fields, "learner_step": step})


def _progress(path, state=None, total_frames=1000):
    logdir, said = LogDir(str(path)), []
    return Progress(logdir, total_frames, state, said.append), logdir, said


def test_rows_hold_what_happened(tmp_path):
    progress, logdir, said = _progress(tmp_path)
    metrics = {"total_loss": tf.constant(2.0), "learning_rate": tf.constant(0.5)}
    progress.add(_batch([1, 2, 6], acted_at=3), 5, 100, metrics, waited=0.0)
    progress.add(_batch([], acted_at=6), 6, 200, {**metrics, "total_loss": tf.constant(4.0)}, waited=0.0)
    progress.report(refused=1)
    progress.close()
    row = pd.read_csv(logdir.progress).iloc[0]
    assert row["frames"] == 200
    assert row["episodes"] == 3
    assert row["mean_return_100"] == pytest.approx(3.0)
    assert row["mean_length_100"] == pytest.approx(11.0)
    assert row["policy_lag_mean"] == pytest.approx(1.0)
    assert row["policy_lag_max"] == 2
    assert row["total_loss"] == pytest.approx(3.0)
    assert row["refused_updates"] == 1
    for part in ("200 frames", "20%", "return 3.00 (3 episodes)", "lag 1.0, max 2", "left", "1 updates refused"):
        assert part in said[0]


def test_the_mean_is_over_the_last_hundred_games(tmp_path):
    progress, _, _ = _progress(tmp_path)
    assert np.isnan(progress.mean_return)
    for value in range(150):
        progress.add(_batch([value]), 0, value, {"x": tf.constant(0.0)}, waited=0.0)
    assert progress.mean_return == pytest.approx(np.mean(range(50, 150)))
    progress.close()


def test_a_resumed_run_goes_on_in_the_same_file(tmp_path):
    """Rows past the checkpoint describe training that was lost, and go."""
    metrics = {"x": tf.constant(0.0)}
    progress, logdir, _ = _progress(tmp_path)
    for frames in (100, 200, 300):
        progress.add(_batch([frames]), 0, frames, metrics, waited=0.0)
        progress.report(0)
        if frames == 200:
            state = progress.state()
    progress.close()
    resumed, _, _ = _progress(tmp_path, state)
    assert resumed.mean_return == pytest.approx(150.0)
    resumed.add(_batch([]), 0, 250, metrics, waited=0.0)
    resumed.report(0)
    resumed.close()
    rows = pd.read_csv(logdir.progress)
    assert list(rows["frames"]) == [100, 200, 250]
    assert list(rows["episodes"]) == [1, 2, 2]
    assert rows["seconds"].is_monotonic_increasing


def test_a_half_written_last_row_is_dropped(tmp_path):
    progress, logdir, _ = _progress(tmp_path)
    progress.add(_batch([]), 0, 100, {"x": tf.constant(0.0)}, waited=0.0)
    progress.report(0)
    state = progress.state()
    progress.close()
    with open(logdir.progress, "a") as file:
        file.write("1790000000.0,1")
    _progress(tmp_path, state)[0].close()
    assert list(pd.read_csv(logdir.progress)["frames"]) == [100]


def test_tensorboard_gets_the_same_numbers(tmp_path):
    progress, logdir, _ = _progress(tmp_path)
    progress.add(_batch([7]), 0, 100, {"total_loss": tf.constant(2.0)}, waited=0.0)
    progress.report(0)
    progress.close()
    scalars = {}
    for file in logdir.tensorboard.iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                scalars[value.tag] = (event.step, float(tf.make_ndarray(value.tensor)))
    assert scalars["episode/mean_return_100"] == (100, 7.0)
    assert scalars["loss/total_loss"] == (100, 2.0)
    assert {"speed/fps_10s", "policy_lag/policy_lag_max"} <= scalars.keys()


def test_the_curve_is_drawn_once_a_game_has_ended(tmp_path):
    progress, logdir, _ = _progress(tmp_path)
    progress.add(_batch([]), 0, 100, {"x": tf.constant(0.0)}, waited=0.0)
    progress.report(0)
    assert not curve.draw(logdir.progress, logdir.curve, "nothing yet")
    assert not logdir.curve.exists()
    progress.add(_batch([3]), 0, 200, {"x": tf.constant(0.0)}, waited=0.0)
    progress.report(0)
    progress.close()
    assert curve.draw(logdir.progress, logdir.curve, "a game")
    assert logdir.curve.read_bytes().startswith(b"\x89PNG")

"""The synchronous schemes for real: catch, in processes, for a few thousand frames."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import sys
import threading
import time

import pandas as pd
import pytest

sys.path.append(str(pathlib.Path(__file__).parent))  # Children get it from here, too.

import real_runs

from impala_tf.architectures import batched_a2c, impala, table
from impala_tf.launch import local
from impala_tf.records.logdir import LogDir

pytestmark = pytest.mark.slow(7)

PER_UPDATE = 6 * real_runs.UNROLL_LENGTH
ACTING = {"variables", "inference", "environment", "writer", "queue"}
LEARNING = {"batch", "update", "publish", "records"}


def _run(architecture, logdir, stop=None, /, **values):
    """Runs to the end; returns the rows of progress.csv and {process: its spans}."""
    resolved = real_runs.resolve(logdir, **values)
    folder = logdir / "spans"
    folder.mkdir()
    local.run(architecture(*resolved, folder), LogDir(str(logdir)), stop or threading.Event())
    columns = ["activity", "start", "end"]
    spans = {path.stem: pd.read_csv(path, names=columns) for path in folder.glob("*.csv")}
    return pd.read_csv(logdir / "progress.csv"), spans


def _check_frames(rows, frames):
    assert rows["frames"].iloc[-1] == frames
    assert (rows["frames"] % PER_UPDATE == 0).all()


def _check_spans(spans, updates):
    """Activities of a process do not overlap, and the learner does as many of them as there are updates."""
    for its in spans.values():
        assert (its["start"] <= its["end"]).all()
        assert (its["start"].to_numpy()[1:] >= its["end"].to_numpy()[:-1]).all()
    counts = spans["learner"]["activity"].value_counts()
    assert (counts["update"], counts["publish"], counts["records"]) == (updates, updates, updates)


def _activities(spans, without=""):
    return {name: set(its["activity"]) - {without} for name, its in spans.items()}


def test_sync_step_learns_from_unrolls_of_the_newest_parameters(tmp_path):
    frames = 150 * PER_UPDATE
    rows, spans = _run(batched_a2c.sync_step, tmp_path, total_frames=frames)
    _check_frames(rows, frames)
    assert rows["policy_lag_max"].max() == 0
    # Every environment has taken the same steps, and an episode takes 9.
    assert rows["episodes"].iloc[-1] == 6 * (150 * real_runs.UNROLL_LENGTH // 9)
    stepping = {"inference", "environment"}
    assert _activities(spans) == {
        "learner": LEARNING,
        "policy": ACTING - {"queue"},
        "actor 0": stepping,
        "actor 1": stepping,
    }
    _check_spans(spans, 150)
    assert spans["policy"]["activity"].value_counts()["environment"] == 150 * real_runs.UNROLL_LENGTH


def test_sync_trajectory_learns_from_unrolls_of_the_newest_parameters(tmp_path):
    """Here the actors' environments have processes of their own; elsewhere below, they have not."""
    updates = 40
    frames = updates * PER_UPDATE
    rows, spans = _run(batched_a2c.sync_trajectory, tmp_path, total_frames=frames, env_processes="on")
    _check_frames(rows, frames)
    assert rows["policy_lag_max"].max() == 0
    assert rows["episodes"].iloc[-1] == 6 * (updates * real_runs.UNROLL_LENGTH // 9)
    assert _activities(spans) == {"learner": LEARNING, "actor 0": ACTING, "actor 1": ACTING}
    _check_spans(spans, updates)


def test_in_impala_the_policy_lags(tmp_path):
    """Otherwise the tests above would show nothing."""
    frames = 150 * PER_UPDATE
    rows, spans = _run(impala.actor_inference, tmp_path, total_frames=frames)
    _check_frames(rows, frames)
    assert rows["policy_lag_max"].max() > 0
    acting = ACTING - {"queue"}  # Whether an actor ever finds the queue full depends on its speed.
    assert _activities(spans, without="queue") == {"learner": LEARNING, "actor 0": acting, "actor 1": acting}


def test_central_inference_records_the_spans_of_its_policy(tmp_path):
    frames = 100 * PER_UPDATE
    rows, spans = _run(impala.central_inference, tmp_path, total_frames=frames, inference="central")
    _check_frames(rows, frames)
    stepping = {"inference", "environment"}
    expected = {"learner": LEARNING, "policy": ACTING - {"queue"}, "actor 0": stepping, "actor 1": stepping}
    assert _activities(spans, without="queue") == expected


class _Started(threading.Thread):
    """A run in a thread, to do something to it."""

    def __init__(self, *arguments, **values):
        super().__init__(daemon=True)
        self._arguments, self._values = arguments, values
        self.stop, self.error = threading.Event(), None

    def run(self):
        try:
            _run(*self._arguments, self.stop, **self._values)
        except Exception as error:
            self.error = error

    def wait_until(self, condition, timeout=90.0):
        deadline = time.monotonic() + timeout
        while not condition():
            assert self.is_alive() and time.monotonic() < deadline, self.error
            time.sleep(0.05)


@contextlib.contextmanager
def _started(*arguments, **values):
    started = _Started(*arguments, total_frames=10**9, **values)
    started.start()
    try:
        yield started
    finally:
        started.stop.set()
        started.join(30)
        assert not started.is_alive()


def _children(name):
    """Process ids of this process's descendants of that name."""
    found, parents = [], {os.getpid()}
    stats = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            head, _, rest = path.read_text().rpartition(")")
            pid, _, command = head.partition(" (")
            stats[int(pid)] = (command, int(rest.split()[1]))
    for _ in range(4):
        parents |= {pid for pid, (_, parent) in stats.items() if parent in parents}
    found = [pid for pid in parents if pid in stats and stats[pid][0] == name]
    return found


def _rows(logdir):
    path = logdir / "progress.csv"
    return pd.read_csv(path) if path.exists() and path.read_text().count("\n") > 1 else None


WAITING = {
    "sync_step": {"architecture": "batched_a2c_sync_step"},
    "sync_trajectory": {"architecture": "batched_a2c_sync_trajectory"},
    "dynamic_batches": {"architecture": "batched_a2c_sync_trajectory", "inference": "central"},
    "policy_lag": {"policy_lag": 3},
}


@pytest.mark.parametrize("name", WAITING)
def test_catch_is_learned_at_the_set_lag_although_an_actor_is_killed_twice(tmp_path, caplog, name):
    """The others wait for the unrolls that it owes; nothing of different games is mixed. In the end, the run saves."""
    lag, per_update = WAITING[name].get("policy_lag", 0), 32 * 20

    def frames():
        return 0 if _rows(tmp_path) is None else int(_rows(tmp_path)["frames"].iloc[-1])

    def goes_on():
        before = frames()
        run.wait_until(lambda: frames() > before + 5 * per_update)

    with (
        caplog.at_level("INFO", "impala_tf"),
        _started(table.program, tmp_path, **real_runs.LEARNS, **WAITING[name]) as run,
    ):
        run.wait_until(lambda: frames() > 0)
        for kill in (1, 2):
            (pid,) = _children("actor 1")
            os.kill(pid, signal.SIGKILL)
            run.wait_until(
                lambda kill=kill: f"signal 9 (see {tmp_path / 'logs' / 'actor_1.log'}); restart {kill}" in caplog.text
            )
            run.wait_until(lambda pid=pid: _children("actor 1") not in ([], [pid]))
            goes_on()
        run.wait_until(lambda: _rows(tmp_path)["mean_return_100"].max() >= 0.9)
    assert run.error is None
    rows = _rows(tmp_path)
    assert (rows["frames"] % per_update == 0).all()
    assert LogDir(str(tmp_path)).frames == rows["frames"].iloc[-1]
    full = rows[rows["frames"].shift(fill_value=0) >= lag * per_update]
    assert len(full) > 10 and (full["policy_lag_max"] == lag).all() and (full["policy_lag_mean"] == lag).all()
    assert rows["mean_length_100"].dropna().between(8.999, 9.001).all()
    assert "Traceback" not in (tmp_path / "logs" / "learner.log").read_text()
    assert _children("actor 0") == _children("learner") == []


def test_a_run_whose_learner_is_killed_resumes_with_the_lag_of_a_start(tmp_path):
    values = {"policy_lag": 100, "checkpoint_interval": 0.2}
    with _started(table.program, tmp_path, **values) as run:
        run.wait_until(lambda: LogDir(str(tmp_path)).frames > 110 * PER_UPDATE)
        (pid,) = _children("learner")
        os.kill(pid, signal.SIGKILL)
        run.join(30)
        assert "The learner was ended by SIGKILL" in str(run.error) and "resume" in str(run.error)
    saved = LogDir(str(tmp_path)).frames
    shutil.rmtree(tmp_path / "spans")
    rows, _ = _run(table.program, tmp_path, total_frames=saved + 150 * PER_UPDATE, **values)
    _check_frames(rows, saved + 150 * PER_UPDATE)
    assert (rows["frames"].diff().iloc[1:] > 0).all()
    updates = rows["frames"] // PER_UPDATE - saved // PER_UPDATE  # Of the second start.
    later = updates > 0
    assert (rows["policy_lag_max"][later] == (updates[later] - 1).clip(upper=100)).all()
    assert rows["policy_lag_max"][~later].max() == 100


@pytest.mark.parametrize("name", ["sync_step", "dynamic_batches"])
def test_it_saves_although_an_environment_does_not_answer(tmp_path, caplog, name):
    """Within the 8 s that it has when it is asked to end."""
    with _started(table.program, tmp_path, **WAITING[name]) as run:
        run.wait_until(lambda: _rows(tmp_path) is not None)
        (pid,) = _children("actor 1")
        os.kill(pid, signal.SIGSTOP)
        time.sleep(1.0)  # The round that is played now does not end.
        run.stop.set()
        run.join(30)
    assert run.error is None and "killed" not in caplog.text
    assert LogDir(str(tmp_path)).frames == _rows(tmp_path)["frames"].iloc[-1] > 0

"""A3C as a command: it learns, and goes on when a worker or the learner is killed; by hand, across processes."""

from __future__ import annotations

import json
import os
import re
import signal

import pandas as pd
import pytest

from impala_tf.transport import ports

SECONDS = 120
SETTINGS = (
    "--env=catch",
    "--architecture=a3c",
    "--learning_rate=0.006",
    "--entropy_cost=0.003",
    "--rmsprop_epsilon=0.001",
    "--annealing_frames=1000000",
    "--num_actors=2",
    "--envs_per_actor=8",
    "--log_interval=0.5",
    "--checkpoint_interval=1",
)
FRAMES_PER_GRADIENT = 8 * 20


def progress(run):
    """The rows of the run's log, without one that is being written."""
    path = run.logdir / "progress.csv"
    return pd.read_csv(path).dropna(subset=["total_loss"]) if path.exists() and path.stat().st_size else pd.DataFrame()


@pytest.mark.slow(30)
@pytest.mark.timeout(500)
def test_it_learns_though_a_worker_and_the_learner_are_killed(start, tmp_path, frames_saved, resumed_at, error_of):
    """Perfect play returns 1 and is reached after about 50,000 frames. Each gradient counts as one learner step."""
    run = start(*SETTINGS, f"--logdir={tmp_path}", "--total_frames=1000000000", "--stall_timeout=60")
    run.wait_until(lambda: len(progress(run)) > 1, SECONDS)
    (worker,) = run.children("actor 1")
    os.kill(worker, signal.SIGKILL)
    run.wait_until(lambda: "actor 1 was ended by signal 9" in run.out, SECONDS)
    log = tmp_path / "logs" / "actor_1.log"
    seen = log.stat().st_size
    run.wait_until(lambda: b" gradients in " in log.read_bytes()[seen:], SECONDS)  # The new one contributes.
    run.wait_until(lambda: frames_saved(tmp_path), SECONDS)
    (learner,) = run.children("learner")
    os.kill(learner, signal.SIGKILL)
    assert "The learner was ended by SIGKILL" in error_of(run, 30)
    run.wait_until_gone()
    saved = frames_saved(tmp_path)[-1]
    again = start(*SETTINGS, f"--logdir={tmp_path}", "--total_frames=1000000000")
    again.wait_until(lambda: "resuming" in again.out, SECONDS)
    frames, step = resumed_at(again)
    assert frames == saved and frames == step * FRAMES_PER_GRADIENT
    again.wait_until(lambda: len(progress(again)) > 3 and min(progress(again)["mean_return_100"][-3:]) >= 0.9, SECONDS)
    again.process.send_signal(signal.SIGINT)
    assert again.finish(15) == 128 + signal.SIGINT, again.describe()
    again.wait_until_gone()
    rows = progress(again)
    assert rows["frames"].is_monotonic_increasing and rows["mean_return_100"].iloc[0] < 0.5
    assert (rows["frames"] % FRAMES_PER_GRADIENT == 0).all() and not rows["refused_updates"].any()
    assert rows["policy_lag_mean"].median() <= 1.5  # Two workers: 1 if they keep pace.
    # The last checkpoint is whole: it says what it counts, and can be exported.
    done = start(f"--logdir={tmp_path}", f"--output={tmp_path / 'model'}", command=("-m", "run.export"))
    assert done.finish(SECONDS) == 0, done.describe()
    state = json.loads((tmp_path / "checkpoints" / f"{frames_saved(tmp_path)[-1]:012d}" / "state.json").read_text())
    assert state["frames"] == state["learner_step"] * FRAMES_PER_GRADIENT


def test_learner_and_worker_may_be_started_by_hand(start, error_of, tmp_path):
    """A worker that would compute another gradient is refused."""
    port = ports.free_port()
    flags = ("--env=catch", "--architecture=a3c")
    by_hand = (f"--address=localhost:{port}", "--connect_timeout=30", "--role=actor")
    learner = start(
        *flags, "--role=learner", "--num_actors=1", f"--port={port}", f"--logdir={tmp_path}", "--total_frames=2000"
    )
    learner.wait_until(lambda: "learner ready at" in learner.out, SECONDS)
    other = start(*flags, "--discount=0.5", *by_hand)
    assert "--discount: 0.99 at the learner, 0.5 here" in error_of(other, SECONDS)
    worker = start(*flags, *by_hand)
    assert learner.finish(SECONDS) == 0, learner.describe()
    assert worker.finish(10) == 0, worker.describe()
    assert f"The learner at localhost:{port} has finished its run." in worker.out, worker.describe()
    assert "ready: the learner has taken the first gradients" in worker.out and "ERROR" not in worker.err, (
        worker.describe()
    )
    assert re.search(r"2,000 frames \(100%\)", learner.out), learner.describe()
    assert not progress(learner)["policy_lag_max"].any()  # A single worker is on-policy.

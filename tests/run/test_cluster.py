"""A run on a Ray cluster of two nodes on this machine, through the real command."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import signal
import sys
import tempfile

import pytest

pytest.importorskip("ray")
sys.path.append(str(pathlib.Path(__file__).parents[1] / "launch" / "ray"))

from clusters import Nodes, running

pytestmark = pytest.mark.slow(77)


@pytest.fixture
def cluster():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ray_", dir="/tmp"))  # Ray's sockets need short paths.
    made = Nodes(folder, 2, 1)
    yield made
    made.close()
    shutil.rmtree(folder, ignore_errors=True)


def test_it_learns_survives_the_kill_of_its_learner_and_ends_with_a_checkpoint(start, cluster, tmp_path, frames_saved):
    """With a relay on each machine of actors."""
    logdir = tmp_path / "run"
    flags = ("--setup=catch", "--cluster=ray", f"--address={cluster.address}", "--num_actors=2", "--envs_per_actor=8")
    intervals = ("--log_interval=0.2", "--checkpoint_interval=1", "--total_frames=1000000000")
    run = start(*flags, *intervals, "--relays", f"--logdir={logdir}")
    both = "1 learner, 2 actors, 2 machines"
    run.wait_until(lambda: frames_saved(logdir) and both in run.out, 150)
    saved, said = frames_saved(logdir)[-1], len(run.out)
    (learner,) = [pid for pid, name in running(cluster.mark).items() if name == "learner"]
    os.kill(learner, signal.SIGKILL)
    run.wait_until(lambda: "resuming" in run.out[said:] and both in run.out[said:].partition("resuming")[2], 100)
    assert "the learner was ended by SIGKILL" in run.out and "frames, learner step" in run.out[said:]
    assert frames_saved(logdir)[-1] >= saved
    run.process.send_signal(signal.SIGINT)
    assert run.finish(60) == 130, run.describe()
    assert "Ended early by SIGINT; the last checkpoint is at" in run.out and run.err == "", run.describe()
    assert frames_saved(logdir)[-1] > saved
    assert not {"learner", "actor 0", "actor 1", "relay 0", "relay 1"} & set(running(cluster.mark).values())
    logs = logdir / "logs"
    for log in [path.read_text() for path in logs.glob("relay_*.log")]:
        assert max(map(int, re.findall(r"passed on (\d+) times", log))) > 1, log
    for log in [(logs / f"actor_{number}.log").read_text() for number in range(2)]:
        of_learner, of_successor = re.findall(r"parameters come from the relay at (\S+)", log)
        assert of_learner == of_successor, "the relay must be at its port again"

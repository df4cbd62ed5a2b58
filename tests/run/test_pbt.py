"""impala-pbt, as a command: a population that is interrupted, loses a member's process, and is trained to its end."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import tempfile

import pandas as pd
import pytest
from warm import ADDRESS

FORKING = pathlib.Path(__file__).with_name("forking")
PBT = ("-m", "run.pbt")
FLAGS = (
    *("--env=catch", "--num_actors=0", "--log_interval=0.1", "--unroll_length=10", "--batch_size=8", "--at_once=2"),
    *("--episodes_per_evaluation=100", "--burn_in_frames=0", "--copy_margin=0.0", "--perturb_probability=1"),
)


@pytest.fixture
def flags(tmp_path):
    (tmp_path / "v.csv").write_text("learning_rate\n0.003\n0.001\n")
    return [*FLAGS, f"--values={tmp_path / 'v.csv'}", f"--output={tmp_path / 'population'}"]


def pipes(pid):
    """The pipes that a process has an end of."""
    found = set()
    with contextlib.suppress(OSError):  # The process, or a file of it, has just been closed.
        for file in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found |= {target for target in [os.readlink(file)] if target.startswith("pipe:")}
    return found


def parent_of_a_run(started):
    """The process of a member: Ray gives it a title that hides whose it is, but it has an end of its run's lifeline."""
    for run in started.all_processes():
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{run}/fd/1").endswith("/logs/output.txt"):
                for other in pathlib.Path("/proc").glob("[0-9]*"):
                    if (other / "comm").read_text().startswith("ray::") and pipes(other.name) & pipes(run):
                        return int(other.name)
    return None


@pytest.mark.slow(45)
@pytest.mark.timeout(900)  # Ray starts twice, members eight times: on a busy machine that takes minutes.
def test_a_population_is_interrupted_loses_a_process_and_reaches_its_end(start, warm, flags, tmp_path):
    """Members train as commands that Ray's processes start: in forks, as they start many times."""
    pytest.importorskip("ray")
    folder = tmp_path / "population"
    csv = folder / "population.csv"

    def evaluations():
        return pd.read_csv(csv) if csv.exists() and csv.stat().st_size else []

    with tempfile.TemporaryDirectory(prefix="ray_", dir="/tmp") as ray:  # Sockets need short paths.
        # No workers that nobody needs: members have an environment of their own, and so others.
        environment = {"RAY_TMPDIR": ray, "RAY_prestart_worker_first_driver": "0"}
        environment |= {"PYTHONPATH": str(FORKING), ADDRESS: warm.address}
        started = start(*flags, "--total_frames=1e8", command=PBT, environment=environment)
        started.wait_until(lambda: len(evaluations()), 200, every=0.1)
        # The process of a member is killed, and with it, in order, its run.
        worker = []
        started.wait_until(lambda: worker.append(parent_of_a_run(started)) or worker[-1], 60)
        os.kill(worker[-1], signal.SIGKILL)
        seen = len(evaluations())
        started.wait_until(lambda: set(evaluations()["member"][seen:]) == {0, 1}, 120, every=0.1)
        started.process.send_signal(signal.SIGINT)
        assert started.finish(60) == 130, started.describe()
        started.wait_until_gone(20)
        assert started.err == "", started.describe()
        assert "process died; it goes on from its last checkpoint" in started.out
        assert "Ended early by SIGINT. To resume: " in started.out and "Traceback" not in started.out

        before = csv.read_text()
        last = evaluations().groupby("member").last()
        end = int(last["frames"].max()) + 1  # Both train again.
        again = start(*flags, f"--total_frames={end}", command=PBT, environment=environment)
        assert again.finish(240) == 0 and again.err == "", again.describe()
        again.wait_until_gone(20)
    assert csv.read_text().startswith(before)
    rows = evaluations()
    for member, own in rows.groupby("member"):
        assert own["evaluation"].tolist() == list(range(1, len(own) + 1)), member
        assert own["frames"].iloc[-1] >= end and own["frames_trained"].is_monotonic_increasing
        assert own["perturbed"].iloc[:-1].notna().all() and pd.isna(own["perturbed"].iloc[-1])
    assert "ancestry of the best: member " in again.out and (folder / "population.png").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--lr=1"], "Unknown flag --lr. Did you mean --learning_rate?"),
        (["--logdir=x"], "--logdir: impala-pbt gives every run a folder below --output."),
        (["--output="], "--output is needed"),
        (["--members=3"], "--members=3, but --values="),
        (["--values=", "--members=1"], "A population needs at least two members."),
        (["--values=/nothing.csv"], "/nothing.csv cannot be read: No such file"),
        (["--env=atari/no_such_game"], "no_such_game"),
        (["--member_cpus=2"], "--member_cpus does nothing without RAY_ADDRESS"),
    ],
)
def test_mistakes_are_found_before_anything_is_started(start, error_of, flags, tmp_path, more, message):
    assert message in error_of(start(*flags, *more, command=PBT), 30)
    assert not (tmp_path / "population").exists()


def test_a_margin_is_needed_where_the_fitness_is_no_score(start, error_of, flags):
    without = [flag for flag in flags if not flag.startswith("--copy_margin")]
    assert "--copy_margin is needed: the paper's 5% are of a human-normalized score" in error_of(
        start(*without, command=PBT), 30
    )

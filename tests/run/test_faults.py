"""Real faults: killed processes, children that cannot start, losses that are not finite, a full disk."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time

import pandas as pd
import pytest

from impala_tf.transport import ports

CATCH = ("--env=catch", "--batch_size=8", "--unroll_length=10", "--envs_per_actor=8", "--log_interval=0.1")
FOR_EVER = "--total_frames=1000000000"
SHUTDOWN = 10
"""Seconds within which all processes must have ended."""


@pytest.mark.slow(28)
def test_actors_are_killed_ten_times(start, tmp_path):
    """The run continues and reaches its number of frames.

    Each of two actors is killed five times, alternately after its unrolls have arrived and as soon as its new process
    exists. The waits before its restarts are 0.5, 1, 2, 4 and 8 s, so that the kills take at least 8 s, and about twice
    that with the starts in between. The run has enough frames to last until then.
    """
    # Without their beats, all processes would be taken for hanging.
    run = start(*CATCH, "--num_actors=2", f"--logdir={tmp_path}", "--total_frames=40000", "--stall_timeout=30")
    logs = [tmp_path / "logs" / f"actor_{i}.log" for i in range(2)]
    seen, killed = [0, 0], []

    def new_process(i):
        return next((pid for pid in run.children(f"actor {i}") if pid not in killed), None)

    for kill in range(10):
        i, at_work = kill % 2, kill // 2 % 2 == 0
        if at_work:
            run.wait_until(
                lambda i=i: logs[i].exists() and b"unrolls in" in logs[i].read_bytes()[seen[i] :], timeout=90
            )
        run.wait_until(lambda i=i: new_process(i), timeout=60)
        killed.append(new_process(i))
        os.kill(killed[-1], signal.SIGKILL)
        message = re.compile(rf"actor {i} was ended by signal 9 .*; restart {kill // 2 + 1} in [\d.]+ s")
        run.wait_until(lambda message=message: message.search(run.out), timeout=20)
        seen[i] = logs[i].stat().st_size

    assert run.finish(120) == 0, run.describe()
    assert run.err == "", run.describe()
    assert run.out.count("was ended by signal 9 ") == 10
    assert "actors were restarted 10 times" in run.out
    assert pd.read_csv(tmp_path / "progress.csv")["frames"].iloc[-1] == 40_000
    run.wait_until_gone()


@pytest.mark.slow(33)
def test_the_learner_is_killed_and_then_the_launcher(start, tmp_path, frames_saved, resumed_at, error_of):
    port = ports.free_port()
    flags = (*CATCH, "--num_actors=1", f"--logdir={tmp_path}", FOR_EVER, f"--port={port}")
    interval = 0.5
    run = start(*flags, f"--checkpoint_interval={interval}")
    run.wait_until(lambda: frames_saved(tmp_path), timeout=120)
    as_guest = ("--role=actor", f"--address=localhost:{port}", "--actor_id=1", "--connect_timeout=2")
    guest = start(*CATCH, *as_guest, "--log_interval=1000")
    guest.wait_until(lambda: "ready" in guest.out and len(frames_saved(tmp_path)) == 3, timeout=120)
    (learner,) = run.children("learner")

    def must_be_saved() -> pd.DataFrame:
        rows = pd.read_csv(tmp_path / "progress.csv")
        return rows[rows["time"] < time.time() - interval - 1]  # 1 s for writing.

    run.wait_until(lambda: len(must_be_saved()), timeout=60)
    rows = must_be_saved()
    os.kill(learner, signal.SIGKILL)
    error = error_of(run, SHUTDOWN)
    assert "learner was ended by SIGKILL" in error and "same command" in error
    run.wait_until_gone()
    assert "The learner at localhost" in error_of(guest, 2 + 10)  # Its --connect_timeout plus a margin.

    again = start(*flags, "--checkpoint_interval=600")
    again.wait_until(lambda: again.out.count(" frames/s ") > 3, timeout=90)
    frames, learner_step = resumed_at(again)
    assert frames == learner_step * 8 * 10
    assert frames >= rows["frames"].max()
    assert frames_saved(tmp_path)[-1] == frames

    again.process.kill()
    again.wait_until_gone(SHUTDOWN)
    rows = pd.read_csv(tmp_path / "progress.csv")
    assert frames_saved(tmp_path)[-1] == rows["frames"].iloc[-1] > frames
    assert (rows["frames"].diff().iloc[1:] > 0).all()


IN_A_PIPE = """
import os, runpy, subprocess
reader, writer = os.pipe()
subprocess.Popen(["head", "-n", "1"], stdin=reader, stdout=subprocess.DEVNULL)
os.dup2(writer, 1)
os.close(reader)
runpy.run_module("run.train", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_group_after_the_reader_of_the_output_has_died(start, tmp_path, frames_saved, number):
    """`timeout 60 impala-train ... | tee log`, or a terminal that is closed."""
    run = start(*CATCH, "--num_actors=2", f"--logdir={tmp_path}", FOR_EVER, command=("-c", IN_A_PIPE), group=True)
    rows = tmp_path / "progress.csv"
    run.wait_until(lambda: rows.exists() and rows.read_text().count("\n") > 3, timeout=90)
    assert frames_saved(tmp_path) == []
    os.killpg(run.process.pid, number)
    assert run.finish(SHUTDOWN) == 128 + number, run.describe()
    assert run.err == "", run.describe()
    run.wait_until_gone(2)
    (saved,) = frames_saved(tmp_path)
    assert saved == pd.read_csv(rows)["frames"].iloc[-1]
    assert (tmp_path / "learning_curve.png").exists() and (tmp_path / "model_card.md").exists()


@pytest.mark.parametrize("moment", ["importing", "the learner"])
def test_ctrl_c_during_the_start(start, tmp_path, moment):
    run = start(*CATCH, "--num_actors=2", f"--logdir={tmp_path}", FOR_EVER, cold=True)
    run.wait_until(lambda: run.children("learner") if moment == "the learner" else "importing" in run.out, timeout=60)
    run.process.send_signal(signal.SIGINT)
    assert run.finish(SHUTDOWN) == 128 + signal.SIGINT, run.describe()
    assert run.err == "" and "Ended early by SIGINT; nothing was learned yet" in run.out, run.describe()
    run.wait_until_gone(2)


def test_actor_that_cannot_start(start, tmp_path, error_of):
    """Its environment can be made, which is all that the learner needs, but not reset."""
    (tmp_path / "never_begins.py").write_text(
        "import gymnasium\n"
        "class NeverBegins(gymnasium.Env):\n"
        "    observation_space = gymnasium.spaces.Box(-1, 1, (2,))\n"
        "    action_space = gymnasium.spaces.Discrete(2)\n"
        "    def reset(self, seed=None, options=None):\n"
        "        raise RuntimeError('the dice are lost')\n"
        "gymnasium.register('NeverBegins-v0', NeverBegins)\n"
    )
    flags = ("--env=gymnasium/never_begins:NeverBegins-v0", "--num_actors=2", f"--logdir={tmp_path}/run", FOR_EVER)
    run = start(*CATCH, *flags, environment={"PYTHONPATH": str(tmp_path)})
    error = error_of(run, 60)
    ended = time.time()
    assert re.search(r"Actor [01] could not start: .*the dice are lost", error), error
    assert ended - (tmp_path / "run" / "logs" / f"actor_{error.split()[1]}.log").stat().st_mtime < SHUTDOWN
    run.wait_until_gone()


def test_learner_that_cannot_start(start, tmp_path, error_of):
    text = 'tables { table_name: "trajectories" } tables { table_name: "variables" } tabels { }'  # Read by Reverb only.
    (tmp_path / "tables.textproto").write_text(text)
    run = start(*CATCH, "--num_actors=1", f"--logdir={tmp_path}/run", f"--reverb_config={tmp_path}/tables.textproto")
    error = error_of(run, 60)
    assert "The learner failed: --reverb_config=" in error and "not a ReverbServerConfig textproto" in error
    run.wait_until_gone()


def test_updates_that_are_not_finite_are_refused(start, tmp_path, error_of, frames_saved):
    """The square of a reward of 1e30 is more than float32 holds."""
    (tmp_path / "too_much.py").write_text(
        "import gymnasium\n"
        "class TooMuch(gymnasium.Env):\n"
        "    observation_space = gymnasium.spaces.Box(-1, 1, (2,))\n"
        "    action_space = gymnasium.spaces.Discrete(2)\n"
        "    def reset(self, seed=None, options=None):\n"
        "        super().reset(seed=seed)\n"
        "        return self.observation_space.sample(), {}\n"
        "    def step(self, action):\n"
        "        return self.observation_space.sample(), 1e30, False, False, {}\n"
        "gymnasium.register('TooMuch-v0', TooMuch)\n"
    )
    flags = ("--env=gymnasium/too_much:TooMuch-v0", "--reward_clipping=none", "--max_refused_updates=3")
    run = start(
        *(*CATCH, *flags, "--num_actors=0", f"--logdir={tmp_path}", FOR_EVER), environment={"PYTHONPATH": str(tmp_path)}
    )
    error = error_of(run, 90)
    assert "3 updates in a row were refused" in error and "--learning_rate" in error
    assert "is not finite (1 in a row)" in run.out and "is not finite (2 in a row)" in run.out
    assert pd.read_csv(tmp_path / "progress.csv")["refused_updates"].iloc[-1] == 3
    assert frames_saved(tmp_path) == []


def test_parameters_that_diverge(start, tmp_path, error_of):
    """An absurd learning rate leads to finite parameters whose logits are not finite."""
    flags = ("--learning_rate=1e30", "--max_gradient_norm=0", "--num_actors=0")
    run = start(*CATCH, *flags, f"--logdir={tmp_path}", FOR_EVER)
    error = error_of(run, 120)
    assert "policy is not finite" in error and "diverged" in error and "--learning_rate" in error
    run.wait_until_gone()


@pytest.fixture
def small_disk(tmp_path):
    """A small file system that can be filled."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_full_disk(start, small_disk, error_of, frames_saved, resumed_at):
    """Training continues without checkpoints and logs while the disk is full, and fails if it is full at the end."""
    logdir = small_disk / "run"
    flags = (*CATCH, "--num_actors=0", f"--logdir={logdir}", "--checkpoint_interval=0.5")
    run = start(*flags, FOR_EVER)
    run.wait_until(lambda: frames_saved(logdir) and run.out.count(" frames/s ") > 2, timeout=90)
    with open(small_disk / "filler", "wb", buffering=0) as filler:
        try:
            while True:
                filler.write(b"\0" * 4096)
        except OSError:
            pass
    before = frames_saved(logdir)
    run.wait_until(lambda: run.out.count("could not be written") > 1 and "are incomplete (" in run.out, timeout=60)
    run.process.terminate()
    error = error_of(run, SHUTDOWN)
    assert "could not be written (No space left on device). The last checkpoint is 0m" in error
    complaints = [line for line in run.out.splitlines() if "No space left on device" in line]
    assert all(len(line) < 160 and re.search(r"The last checkpoint is \d+m\d\ds old\.$", line) for line in complaints)
    assert pd.read_csv(logdir / "progress.csv")["frames"].is_monotonic_increasing
    assert frames_saved(logdir) == before

    (small_disk / "filler").unlink()
    again = start(*flags, f"--total_frames={before[-1] + 800}")
    assert again.finish(90) == 0, again.describe()
    assert resumed_at(again)[0] == before[-1]

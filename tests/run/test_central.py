"""Runs with central inference, started by the command."""

from __future__ import annotations

import os
import re
import signal

import pandas as pd
import pytest

CENTRAL = ("--inference=central", "--env=catch", "--batch_size=8", "--unroll_length=10", "--envs_per_actor=8")


def test_it_requires_one_machine(start, error_of, tmp_path):
    for flag in ("--num_actors=0", "--role=learner", "--role=actor"):
        assert "--inference=central needs" in error_of(start(*CENTRAL, flag, f"--logdir={tmp_path}"), 10)


@pytest.mark.slow(11)
def test_an_environment_process_is_killed_and_the_run_interrupted_and_resumed(start, tmp_path, resumed_at):
    """The run continues without the killed process, restarts it, ends on Ctrl-C, and is resumed; with replay."""
    central = (*CENTRAL, "--replay_fraction=0.5", "--replay_size=100")
    run = start(*central, "--num_actors=2", "--log_interval=0.1", f"--logdir={tmp_path}", "--total_frames=1000000000")
    log = tmp_path / "logs" / "actor_0.log"
    run.wait_until(lambda: log.exists() and "inference " in log.read_text(), timeout=90)
    (pid,) = run.children("actor 0")
    os.kill(pid, signal.SIGKILL)
    run.wait_until(lambda: re.search("actor 0 was ended by signal 9 .*; restart 1 in 0.5 s", run.out), timeout=10)
    seen = log.stat().st_size
    run.wait_until(lambda: b"inference " in log.read_bytes()[seen:], timeout=30)

    run.wait_until(lambda: (tmp_path / "progress.csv").read_text().count("\n") > 5, timeout=60)
    run.process.send_signal(signal.SIGINT)
    assert run.finish(15) == 130, run.describe()
    assert run.err == "", run.describe()
    run.wait_until_gone()
    rows = pd.read_csv(tmp_path / "progress.csv")
    frames = rows["frames"].iloc[-1]
    assert frames % (4 * 10) == 0 and rows["replay_lag_max"].max() > 0
    assert "the replay holds 100 unrolls" in run.out and "the replay is empty" not in run.out
    assert " environments a batch: " in (tmp_path / "logs" / "learner.log").read_text()

    again = start(*central, "--num_actors=3", f"--logdir={tmp_path}", f"--total_frames={frames + 4000}")
    assert again.finish(90) == 0, again.describe()
    assert resumed_at(again)[0] == frames
    assert "the replay is empty and fills again" in again.out
    again.wait_until_gone()


def test_environments_that_cannot_be_made_end_the_run(start, error_of, tmp_path):
    """Making them works in the command and in the learner, but fails in the environment processes."""
    package = tmp_path / "broken"
    package.mkdir()
    (package / "broken_env.py").write_text(
        "import gymnasium, pathlib\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "def make(**options):\n"
        "    if pathlib.Path('/proc/self/comm').read_text().startswith('actor'):\n"
        "        raise OSError('no level cache')\n"
        "    return CartPoleEnv(**options)\n"
        "gymnasium.register('Broken-v0', entry_point=make)\n"
    )
    run = start(
        "--inference=central",
        "--env=gymnasium/broken_env:Broken-v0",
        f"--logdir={tmp_path / 'run'}",
        environment={"PYTHONPATH": str(package)},
    )
    error = error_of(run, 60)
    assert "Actor" in error and "no level cache" in error, run.describe()
    run.wait_until_gone()

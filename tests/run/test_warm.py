"""Commands in forks are like those that users start."""

from __future__ import annotations

import signal

import pytest


@pytest.mark.parametrize("arguments", [("--version",), ("--no_such_flag",), ("--logdir=nowhere",)])
def test_it_prints_the_same_and_has_the_same_status(start, arguments):
    warm, cold = [start(*arguments, command=("-m", "run.export"), cold=cold) for cold in (False, True)]
    assert warm.finish(60) == cold.finish(60), warm.describe()
    assert (warm.out, warm.err) == (cold.out, cold.err)
    warm.wait_until_gone()


def test_a_run_is_killed_by_a_signal_and_nothing_is_left(start, tmp_path):
    run = start("--env=catch", "--num_actors=1", f"--logdir={tmp_path}", "--total_frames=100000000")
    run.wait_until(lambda: "first update done" in run.out, 60)
    assert len(run.children("learner")) == len(run.children("actor 0")) == 1
    run.process.kill()
    assert run.finish(10) == -signal.SIGKILL
    run.wait_until_gone(10)

"""Measuring in processes of their own, and what becomes of those that fail."""

import os
import signal
import time

import pytest

from impala_tf.benchmark.measure import Measurement, in_processes, repeat
from impala_tf.errors import UserError


def _work(what):
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "fail":
        raise UserError("no such game")
    if what == "hang":
        time.sleep(60)
    return os.getpid()


def test_costs_per_frame():
    measured = Measurement(frames=200, seconds=4.0, cpu_seconds=2.0)
    assert (measured.frames_per_second, measured.core_seconds_per_frame) == (50.0, 0.01)


def test_warm_up_does_not_count_and_sleep_costs_no_processor_time():
    calls = []

    def step():
        calls.append(time.perf_counter())
        time.sleep(0.01)
        return 3

    measured = repeat(step, seconds=0.5)
    assert 3 <= measured.frames // 3 < len(calls) <= measured.frames // 3 + 11  # Each takes 0.01 s or more.
    assert 0.5 <= measured.seconds < 1.5
    assert measured.cpu_seconds < 0.5 * measured.seconds


@pytest.mark.slow
def test_processes_are_new_each_time_and_their_failures_are_told():
    pids = in_processes(_work, [("",), ("",)], timeout=60) + in_processes(_work, [("",)], timeout=60)
    assert len({os.getpid(), *pids}) == 4
    with pytest.raises(UserError, match="no such game"):
        in_processes(_work, [("",), ("fail",)], timeout=60)
    with pytest.raises(UserError, match="_work died"):
        in_processes(_work, [("die",)], timeout=60)
    start = time.monotonic()
    with pytest.raises(UserError, match="more than 1 s"):
        in_processes(_work, [("hang",)], timeout=1)
    assert time.monotonic() - start < 10

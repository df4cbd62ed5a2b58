"""Measurements in separate processes, and their failures."""

import os
import signal
import time

import pytest

from impala_tf.benchmark.measure import Bench, Measurement, once, repeat, together, total
from impala_tf.errors import UserError


def _work(what):
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "fail":
        raise UserError("no such game")
    if what == "hang":
        time.sleep(60)
    return os.getpid()


def _prepare(what):
    _work(what)

    def step():
        if what == "die later":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.01)
        return 5

    return step


def test_costs_per_frame():
    measured = Measurement(frames=200, seconds=4.0, cpu_seconds=2.0)
    assert (measured.frames_per_second, measured.core_seconds_per_frame) == (50.0, 0.01)
    assert total([measured, Measurement(100, 1.0, 4.0, 7)]) == Measurement(300, 5.0, 6.0, 7)


def test_the_first_call_does_not_count_and_sleeping_takes_no_cpu_time():
    calls = []

    def step():
        calls.append(time.perf_counter())
        time.sleep(0.01)
        return 3

    measured = repeat(step, seconds=0.5)
    assert measured.frames == 3 * (len(calls) - 1)
    assert 0.5 <= measured.seconds < 1.5
    assert measured.cpu_seconds < 0.5 * measured.seconds


@pytest.mark.slow(4)
def test_benches_are_idle_between_measurements_and_measure_at_the_same_time():
    with Bench(_prepare, "") as one, Bench(_prepare, "") as other:
        for bench in (one, other):
            bench.wait_until_ready(60)
        for _ in range(2):
            start = time.monotonic()
            for measured in together([one, other], seconds=0.5, timeout=10):
                assert measured.frames % 5 == 0 and 0 < measured.frames <= 5 * 51
            assert time.monotonic() - start < 0.9


@pytest.mark.slow(4)
def test_failures_are_reported():
    assert once(_work, "", timeout=60) != os.getpid()
    with pytest.raises(UserError, match="no such game"):
        once(_work, "fail", timeout=60)
    with pytest.raises(UserError, match=r"Measuring _work failed: its process was ended by SIGKILL\."):
        once(_work, "die", timeout=60)
    start = time.monotonic()
    with pytest.raises(UserError, match="no answer within 1 s"):
        once(_work, "hang", timeout=1)
    assert time.monotonic() - start < 10
    for what, message in (
        ("fail", "no such game"),
        ("die", "Measuring _prepare failed: .* SIGKILL"),
        ("hang", "no answer within 5 s"),
    ):
        with pytest.raises(UserError, match=message), Bench(_prepare, what) as bench:
            bench.wait_until_ready(5)
    with pytest.raises(UserError, match="ended by SIGKILL"), Bench(_prepare, "die later") as bench:
        bench.wait_until_ready(60)
        bench.begin(1.0)
        bench.end(60)

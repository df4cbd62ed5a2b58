"""Ctrl-C and SIGTERM set the event; a second one does what it is told to."""

from __future__ import annotations

import signal

import pytest

from impala_tf.processes.signals import STOP, stop_on_signal


@pytest.fixture(autouse=True)
def restored():
    before = [signal.getsignal(number) for number in STOP]
    yield
    for number, handler in zip(STOP, before):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOP)
@pytest.mark.parametrize("second", [signal.SIG_DFL, signal.SIG_IGN])
def test_the_first_signal_sets_the_event_and_hands_over_to_the_second(number, second):
    stop, received = stop_on_signal(second)
    assert not stop.is_set() and received == []
    signal.raise_signal(number)
    assert stop.is_set() and received == [number]
    assert signal.getsignal(number) == second


def test_nohup_is_respected():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stop, _ = stop_on_signal()
    signal.raise_signal(signal.SIGHUP)
    assert not stop.is_set()

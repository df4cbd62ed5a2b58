"""Ctrl-C and SIGTERM set the event; a second one does what it is told to."""

from __future__ import annotations

import signal

import pytest

from impala_tf.processes.signals import stop_on_signal


@pytest.fixture(autouse=True)
def restored():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    for number, handler in zip((signal.SIGINT, signal.SIGTERM), before):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("second", [signal.SIG_DFL, signal.SIG_IGN])
def test_the_first_signal_sets_the_event_and_hands_over_to_the_second(number, second):
    stop, received = stop_on_signal(second)
    assert not stop.is_set() and received == []
    signal.raise_signal(number)
    assert stop.is_set() and received == [number]
    assert signal.getsignal(number) == second

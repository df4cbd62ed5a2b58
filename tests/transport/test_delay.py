"""Parameters are published as late as set, and refused where their copies do not fit into memory."""

from __future__ import annotations

import functools

import pytest
import tensorflow as tf

from impala_tf import machine
from impala_tf.errors import UserError
from impala_tf.transport.delay import DelayedPublisher
from impala_tf.transport.local_variables import LocalVariables


@pytest.mark.parametrize("updates", [1, 3])
def test_what_is_published_is_as_old_as_set(updates):
    learned, acting = tf.Variable([0.0, 0.0]), tf.Variable([9.0, 9.0])
    inner = []

    def make(_address, variables):
        inner.append(LocalVariables(variables, [acting]))
        return inner[0]

    publisher = DelayedPublisher(make, "localhost:1", [learned], updates)
    for step in range(10):
        learned.assign([float(step), -float(step)])
        publisher.publish(100 + step)
        old = max(0, step - updates)
        assert publisher.wait_until_pushed(1.0)
        assert inner[0].refresh() == 100 + old
        assert acting.numpy().tolist() == [old, -old]
    publisher.stop()


def test_copies_that_do_not_fit_are_refused_with_both_numbers(monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda: 39 * 2**20)
    make = functools.partial(DelayedPublisher, lambda address, variables: None, "localhost:1", [tf.zeros([2**18])])
    with pytest.raises(UserError, match=r"^--policy_lag=39: .* take 40\.0 MiB, but .* has 39\.0 MiB of memory left"):
        make(39)
    make(38)

"""Parameters through a real variable container, and within a process."""

from __future__ import annotations

import sys
import threading
import time

import pytest
import tensorflow as tf

from impala_tf.config import DataConfig
from impala_tf.errors import UserError
from impala_tf.transport import connection, ports, server
from impala_tf.transport.local_variables import LocalVariables
from impala_tf.transport.variables import VariableClient, VariablePublisher


def _variables(value):
    return [tf.Variable(tf.fill([3, 2], float(value))), tf.Variable(float(value))]


@pytest.fixture
def address():
    unroll = {"x": tf.TensorSpec((), tf.int32)}
    with server.Server(server.load_config(DataConfig()), unroll, _variables(0), port=0) as running:
        yield running.address


def test_an_actor_gets_the_newest_parameters_and_their_step(address):
    theirs, ours = _variables(1), _variables(0)
    publisher = VariablePublisher(address, theirs)
    publisher.publish(7)
    client = VariableClient(address, ours, timeout=10)
    assert client.refresh() == 7
    for value in (2.0, 3.0):
        for variable in theirs:
            variable.assign(tf.fill(variable.shape, value))
        publisher.publish(int(value))
    assert publisher.wait_until_pushed(timeout=10)
    assert client.refresh() == 3
    for variable in ours:
        assert (variable.numpy() == 3.0).all()
    publisher.stop()


def test_what_is_published_is_the_value_at_that_moment(address):
    """An update that comes while the push is under way does not leak into it."""
    theirs, ours = _variables(1), _variables(0)
    publisher = VariablePublisher(address, theirs)
    publisher.publish(1)
    for variable in theirs:
        variable.assign(tf.fill(variable.shape, 9.0))
    assert publisher.wait_until_pushed(timeout=10)
    VariableClient(address, ours, timeout=10).refresh()
    assert all((variable.numpy() == 1.0).all() for variable in ours)
    publisher.stop()


def test_a_published_step_is_not_kept(address):
    """TensorFlow keeps every Python number that it turns into a tensor, with the tensor."""
    publisher = VariablePublisher(address, _variables(0))
    step = int("123456789")
    before = sys.getrefcount(step)
    publisher.publish(step)
    assert sys.getrefcount(step) == before
    publisher.stop()


def test_publishing_does_not_wait_for_pushes_and_the_newest_wins(address):
    theirs, ours = _variables(0), _variables(0)
    publisher = VariablePublisher(address, theirs)
    for step in range(1, 301):
        for variable in theirs:
            variable.assign(tf.fill(variable.shape, float(step)))
        publisher.publish(step)
    assert publisher.wait_until_pushed(timeout=20)
    assert VariableClient(address, ours, timeout=10).refresh() == 300
    assert all((variable.numpy() == 300.0).all() for variable in ours)
    publisher.stop()


def test_an_actor_does_not_start_before_the_first_publication(address, caplog):
    theirs, ours = _variables(4), _variables(0)
    publisher = VariablePublisher(address, theirs)
    threading.Timer(0.5, publisher.publish, [1]).start()
    start = time.monotonic()
    with caplog.at_level("INFO", "impala_tf"):
        client = VariableClient(address, ours, timeout=10)
    assert time.monotonic() - start >= 0.4
    assert client.refresh() == 1
    assert caplog.messages == [f"waiting for the first parameters of the learner at {address}"]
    publisher.stop()


def test_waiting_for_the_first_publication_has_a_deadline(address):
    with pytest.raises(UserError, match=r"published no parameters within 0\.5 s"):
        VariableClient(address, _variables(0), timeout=0.5)


def test_a_server_that_goes_away_before_the_first_publication_is_told(monkeypatch):
    monkeypatch.setattr(connection, "_PING_SECONDS", 1)
    with pytest.raises(UserError, match="published no parameters"):
        VariableClient(f"localhost:{ports.free_port()}", _variables(0), timeout=0.5)


def test_a_push_that_fails_is_raised_on_the_training_thread(address):
    """At the next publication or, sooner, where it waits for the parameters to arrive."""
    error = r"(?i)signature|compatible|flatten"
    publisher = VariablePublisher(address, [tf.Variable([1, 2, 3])])  # Not what the table's signature says.
    publisher.publish(1)
    with pytest.raises(Exception, match=error):
        publisher.wait_until_pushed(timeout=10)
    with pytest.raises(Exception, match=error):
        publisher.publish(2)
    publisher.stop()


def test_stopping_ends_the_thread_and_may_be_repeated(address):
    publisher = VariablePublisher(address, _variables(0))
    publisher.publish(1)
    publisher.stop()
    assert not publisher._thread.is_alive()
    publisher.stop()


def test_within_a_process_the_policy_gets_copies():
    theirs, ours = _variables(1), _variables(0)
    variables = LocalVariables(theirs, ours)
    variables.publish(3)
    for variable in theirs:
        variable.assign(tf.fill(variable.shape, 9.0))  # An update under way does not show.
    assert variables.wait_until_pushed(0.0)
    assert variables.refresh() == 3
    assert all((variable.numpy() == 1.0).all() for variable in ours)
    variables.publish(4)
    for _ in range(2):
        assert variables.refresh() == 4
        assert all((variable.numpy() == 9.0).all() for variable in ours)
    variables.stop()

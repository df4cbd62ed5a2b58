"""Parameters through a real variable container."""

import threading
import time

import pytest
import tensorflow as tf

from impala_tf.errors import UserError
from impala_tf.transport import VARIABLES, server
from impala_tf.transport.signatures import variables_signature
from impala_tf.transport.variables import VariableClient, VariablePublisher


def _variables(value):
    return [tf.Variable(tf.fill([3, 2], float(value))), tf.Variable(float(value))]


@pytest.fixture
def address():
    signatures = {VARIABLES: variables_signature(_variables(0))}
    with server.Server(server.load_config("on_policy"), signatures, port=0) as running:
        yield running.address


def _ignore(_message):
    pass


def test_an_actor_gets_the_newest_parameters_and_their_step(address):
    theirs, ours = _variables(1), _variables(0)
    publisher = VariablePublisher(address, theirs)
    publisher.publish(7)
    client = VariableClient(address, ours, timeout=10, say=_ignore)
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
    VariableClient(address, ours, timeout=10, say=_ignore).refresh()
    assert all((variable.numpy() == 1.0).all() for variable in ours)
    publisher.stop()


def test_publishing_does_not_wait_for_pushes_and_the_newest_wins(address):
    theirs, ours = _variables(0), _variables(0)
    publisher = VariablePublisher(address, theirs)
    for step in range(1, 301):
        for variable in theirs:
            variable.assign(tf.fill(variable.shape, float(step)))
        publisher.publish(step)
    assert publisher.wait_until_pushed(timeout=20)
    assert VariableClient(address, ours, timeout=10, say=_ignore).refresh() == 300
    assert all((variable.numpy() == 300.0).all() for variable in ours)
    publisher.stop()


def test_an_actor_does_not_start_before_the_first_publication(address):
    theirs, ours = _variables(4), _variables(0)
    publisher = VariablePublisher(address, theirs)
    threading.Timer(0.5, publisher.publish, [1]).start()
    said = []
    start = time.monotonic()
    client = VariableClient(address, ours, timeout=10, say=said.append)
    assert time.monotonic() - start >= 0.4
    assert client.refresh() == 1
    assert any("first parameters" in message for message in said)
    publisher.stop()


def test_waiting_for_the_first_publication_has_a_deadline(address):
    with pytest.raises(UserError, match="published no parameters"):
        VariableClient(address, _variables(0), timeout=0.5, say=_ignore)


def test_a_push_that_fails_is_raised_on_the_training_thread(address):
    publisher = VariablePublisher(address, [tf.Variable([1, 2, 3])])  # Not what the table's signature says.
    publisher.publish(1)
    deadline = time.monotonic() + 10
    with pytest.raises(Exception, match=r"(?i)signature|compatible|flatten"):
        while time.monotonic() < deadline:
            publisher.publish(2)
            time.sleep(0.05)

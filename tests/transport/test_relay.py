"""A relay between a learner's end and an actor's, with real servers in this process; tests/roles kills one."""

from __future__ import annotations

import socket
import threading

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import environments
from impala_tf.acting.actor import Actor
from impala_tf.config import DataConfig
from impala_tf.errors import UserError
from impala_tf.networks.agent import Agent
from impala_tf.transport import connection, ports, server
from impala_tf.transport.actor_end import ActorEnd
from impala_tf.transport.learner_end import LearnerEnd
from impala_tf.transport.relay import Relay
from impala_tf.transport.signatures import unroll_signature
from impala_tf.transport.variables import VariableClient, VariablePublisher

NUM_ENVS, UNROLL_LENGTH = 4, 5
SPEC = environments.spec("counting")
TOLD = {"tasks": ["counting"], "settings": {"architecture": "impala", "policy_lag": -1}}


def _agent(seed):
    return Agent(SPEC, torso="mlp", core="none", seed=seed)


def _learner_end(agent, **options):
    data = DataConfig(batch_size=NUM_ENVS, unroll_length=UNROLL_LENGTH)
    return LearnerEnd(
        data, unroll_signature(SPEC, agent.core_state_spec, UNROLL_LENGTH), agent.trainable_variables, **options
    )


def _actor_end(address, agent, **options):
    options = {"timeout": 10.0, **options}
    return ActorEnd(address, SPEC, agent.core_state_spec, UNROLL_LENGTH, agent.trainable_variables, **options)


def _threads():
    names = ("variable-publisher", "batch-queue", "server-watch")
    return sorted(thread.name for thread in threading.enumerate() if thread.name in names)


@pytest.fixture(autouse=True)
def nothing_is_left_open():
    assert _threads() == []
    yield
    assert _threads() == []


@pytest.fixture
def learner():
    """A learner's end and its variables, which have been published as those of step 1."""
    agent = _agent(2)
    with _learner_end(agent, told=TOLD) as end:
        end.publish(1)
        assert end.wait_until_published(10)
        yield end, agent.trainable_variables


def _publish(learner, step):
    end, variables = learner
    for variable in variables:
        variable.assign_add(tf.ones_like(variable))
    end.publish(step)
    assert end.wait_until_published(10)


def _pass_on(relay):
    assert relay.pass_on()
    assert relay.wait_until_passed_on(10)


def test_parameters_come_through_the_relay_and_unrolls_go_to_the_learner(learner):
    """The learner step is that of the parameters which acted: those that the relay had."""
    end, theirs = learner
    ours = _agent(1)
    with Relay(end.address, timeout=10) as relay, _actor_end(end.address, ours, relay=relay.address) as actor_end:
        assert actor_end.told == TOLD and actor_end.learner_step == 1
        environment = environments.make("counting", NUM_ENVS, seed=1)
        actor = Actor(environment, ours, actor_end.writer.write, actor_end.refresh, UNROLL_LENGTH, seed=1)
        passed_on = [variable.numpy() for variable in theirs]
        for step, expected in ((2, 1), (7, 7), (8, 7)):
            _publish(learner, step)
            if step == 7:
                _pass_on(relay)
                passed_on = [variable.numpy() for variable in theirs]
            assert actor.run_unroll() == NUM_ENVS
            batch = end.next_batch(timeout=20)
            np.testing.assert_array_equal(batch.unrolls.learner_step[1:], np.full((UNROLL_LENGTH, NUM_ENVS), expected))
            for a, b in zip(ours.trainable_variables, passed_on, strict=True):
                np.testing.assert_array_equal(a, b)


def test_nothing_is_passed_on_twice(learner, monkeypatch):
    pulls, refresh = [], VariableClient.refresh
    monkeypatch.setattr(VariableClient, "refresh", lambda self: (pulls.append(self), refresh(self))[1])
    with Relay(learner[0].address, timeout=10) as relay:
        assert [relay.pass_on() for _ in range(3)] == [False] * 3
        assert (len(pulls), relay.learner_step) == (1, 1)
        _publish(learner, 2)
        _publish(learner, 5)
        assert [relay.pass_on() for _ in range(3)] == [True, False, False]
        assert (len(pulls), relay.learner_step) == (2, 5)


def test_any_arrays_are_passed_on_as_they_are():
    theirs = [tf.Variable(value) for value in (np.float32([0.1, np.nan]), np.int64(2**40), np.float16([[0.5]]))]
    theirs.append(tf.Variable(tf.constant([1.5], tf.bfloat16)))
    ours = [tf.Variable(tf.zeros_like(variable)) for variable in theirs]
    with server.Server(server.parameters_only(), None, theirs) as running:
        publisher = VariablePublisher(running.address, theirs)
        publisher.publish(4)
        with Relay(running.address, timeout=10) as first, Relay(first.address, timeout=10) as second:
            assert VariableClient(second.address, ours, timeout=10).refresh() == 4
        publisher.stop()
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_a_learner_that_was_restarted_is_relayed_though_it_counts_anew(learner):
    with Relay(learner[0].address, timeout=10) as relay:
        for step in (8, 9):
            _publish(learner, step)
            _pass_on(relay)
        relay._pushes = 100  # The learner before had published more often,
        _publish(learner, 5)  # and this one has begun at the last checkpoint.
        _pass_on(relay)
        assert relay.learner_step == 5


@pytest.mark.slow(20)
def test_a_learner_that_does_not_answer_is_waited_for(learner, monkeypatch):
    with Relay(learner[0].address, timeout=10) as relay:
        _publish(learner, 2)
        monkeypatch.setattr(connection.Questions, "ask", lambda self: None)
        assert not relay.pass_on()
        monkeypatch.undo()
        assert relay.pass_on()


def _counts(told):
    if told["tasks"] != ["counting"]:
        raise UserError("other tasks")


def test_the_relay_of_another_run_is_refused(learner):
    before = _threads()
    with _learner_end(_agent(1), told={**TOLD, "tasks": ["catch"]}) as other:
        other.publish(1)
        with Relay(other.address, timeout=10) as relay:
            between = _threads()
            with pytest.raises(UserError, match=f"relay at {relay.address} has the parameters of another run"):
                _actor_end(learner[0].address, _agent(1), relay=relay.address, on_end=print, check=_counts)
            assert _threads() == between
    assert _threads() == before


def test_other_parameters_are_refused(learner):
    fewer = _agent(1).trainable_variables[:-1]
    with (
        _learner_end(_agent(1), told=TOLD) as other,
        server.Server(server.parameters_only(), None, fewer, told=TOLD) as relays,
    ):
        other.publish(1)
        with pytest.raises(UserError, match=r"parameters do not match .*: .* nothing at the learner"):
            _actor_end(other.address, _agent(1), relay=relays.address)


def test_a_relay_takes_no_unrolls(learner):
    with (
        Relay(learner[0].address, timeout=10) as relay,
        pytest.raises(UserError, match="takes no unrolls: it is a relay"),
    ):
        _actor_end(relay.address, _agent(1))


def test_a_relay_that_is_not_there_is_named(learner, monkeypatch):
    monkeypatch.setattr(connection, "_PING_SECONDS", 1)
    before, nowhere = _threads(), f"localhost:{ports.free_port()}"
    with pytest.raises(UserError, match=f"No relay answered at {nowhere} within 1 s"):
        _actor_end(learner[0].address, _agent(1), relay=nowhere, timeout=1.0, on_end=print)
    assert _threads() == before


def test_a_relay_that_goes_away_is_told_while_the_learner_stays(learner, monkeypatch):
    monkeypatch.setattr(connection, "_PING_SECONDS", 1)
    lost, messages = threading.Event(), []
    with Relay(learner[0].address, timeout=10) as relay:
        options = {"timeout": 1.0, "on_end": lambda *told: (messages.append(told), lost.set())}
        end = _actor_end(learner[0].address, _agent(1), relay=relay.address, **options)
    assert lost.wait(20)
    end.stop()
    ((message, finished),) = messages
    assert message.startswith(f"The relay at {relay.address} has not answered for 1 s") and not finished


def test_a_learner_that_goes_away_is_told_to_the_relay(monkeypatch):
    monkeypatch.setattr(connection, "_PING_SECONDS", 1)
    lost, messages = threading.Event(), []
    with _learner_end(_agent(1)) as end:
        end.publish(1)
        relay = Relay(end.address, timeout=1.0, on_end=lambda *told: (messages.append(told), lost.set()))
    assert lost.wait(20)
    relay.stop()
    relay.stop()
    assert messages[0][0].startswith(f"The learner at {end.address} has not answered") and not messages[0][1]


def _refuse(told):
    raise UserError(f"refused because of {told['tasks']}")


def test_a_relay_that_cannot_be_made_leaves_nothing_open(learner):
    before = _threads()
    with pytest.raises(UserError, match=r"refused because of \['counting'\]"):
        Relay(learner[0].address, timeout=10, check=_refuse, on_end=print)
    with socket.create_server(("", 0)) as taken, pytest.raises(UserError, match="--port="):
        Relay(learner[0].address, timeout=10, port=taken.getsockname()[1], on_end=print)
    with _learner_end(_agent(1)) as silent:
        between = _threads()
        with pytest.raises(UserError, match=r"learner at .* published no parameters within 0\.5 s"):
            Relay(silent.address, timeout=0.5, on_end=print)
        assert _threads() == between
    assert _threads() == before

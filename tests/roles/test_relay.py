"""A relay's process: it is paced, ends with its learner, and is missed when it is killed."""

from __future__ import annotations

import threading
import time

import pytest

from impala_tf import config as config_lib
from impala_tf import environments
from impala_tf.architectures import nodes
from impala_tf.config import DataConfig
from impala_tf.errors import UserError
from impala_tf.networks.agent import Agent
from impala_tf.processes.child import FORK_SERVER, Child
from impala_tf.roles import relay as role
from impala_tf.transport import connection, ports
from impala_tf.transport.actor_end import ActorEnd
from impala_tf.transport.learner_end import LearnerEnd
from impala_tf.transport.signatures import unroll_signature

SPEC = environments.spec("counting")
TOLD = {"settings": {"architecture": "impala", "policy_lag": -1}}
WAIT = 60


def _agent():
    return Agent(SPEC, torso="mlp", core="none", seed=1)


@pytest.fixture
def learner():
    agent = _agent()
    signature = unroll_signature(SPEC, agent.core_state_spec, 5)
    with LearnerEnd(DataConfig(batch_size=4), signature, agent.trainable_variables, told=TOLD) as end:
        end.publish(1)
        yield end


def _wait(child, condition):
    deadline = time.monotonic() + WAIT
    while not condition():
        child.poll()
        assert time.monotonic() < deadline, child.error
        time.sleep(0.01)


@pytest.fixture
def start(learner, tmp_path):
    """Starts a relay of the learner in a process of its own, as a launcher does; waits until it works."""
    children = []

    def start(port):
        config = config_lib.from_values({"connect_timeout": 2.0, "relay_rate": 50.0})
        node = nodes.relay(config, learner.address, port=port)
        child = Child(node.name, node.work, 0, context=FORK_SERVER, log=tmp_path / "relay.log")
        children.append(child)
        _wait(child, lambda: child.ready or child.status is not None)
        assert child.ready, child.error
        return child

    yield start
    for child in children:
        child.kill()


@pytest.mark.slow(20)
def test_a_killed_relay_is_missed_and_replaced_and_ends_with_its_learner(learner, start, monkeypatch, tmp_path):
    """One process after another, as each takes seconds to start."""
    monkeypatch.setattr(connection, "_PING_SECONDS", 1)
    port, agent = ports.free_port(), _agent()
    child = start(port)
    lost, messages = threading.Event(), []

    def connect(on_end):
        arguments = (learner.address, SPEC, agent.core_state_spec, 5, agent.trainable_variables)
        return ActorEnd(*arguments, relay=f"localhost:{port}", timeout=2.0, on_end=on_end)

    with connect(lambda *told: (messages.append(told), lost.set())) as end:
        learner.publish(2)
        _wait(child, lambda: end.refresh() == 2)  # Nobody calls `pass_on` here: the process does.
        child.kill()
        # An actor's next pull waits in native code, which only the end of its process interrupts.
        pull = threading.Thread(target=end.refresh, daemon=True)
        pull.start()
        assert lost.wait(20)
        assert pull.is_alive()
        ((message, finished),) = messages
        assert message.startswith(f"The relay at localhost:{port} has not answered for 2 s") and not finished
        learner.publish(3)
        child = start(port)
        pull.join(WAIT)  # The next one frees it, if it comes in time.
        assert not pull.is_alive()
        _wait(child, lambda: end.refresh() == 3)
    learner.stop()
    _wait(child, lambda: child.status is not None)
    assert child.status == 1
    *_, error = filter(None, (tmp_path / "relay.log").read_text().splitlines())  # Native code may write a line, too.
    assert error.startswith(f"ERROR: The learner at {learner.address} has not answered for 2 s")


class _EnoughError(Exception):
    pass


def _run(learner, monkeypatch, beats, on_beat=lambda: None, **values):
    """Runs a relay in this process until it has looked `beats` times; returns the seconds between first and last."""
    looked, told = [], []

    def beat():
        looked.append(time.monotonic())
        on_beat()
        if len(looked) == beats:
            raise _EnoughError

    monkeypatch.setattr(role.actor, "limit_tensorflow", lambda config: None)  # It is in use already.
    monkeypatch.setattr(role.parent, "beat", beat)
    config = config_lib.from_values({"connect_timeout": 10.0, **values})
    with pytest.raises(_EnoughError):
        role.run(config, address=learner.address, port=0, ready=told.append)
    assert len(told) == 1 and told[0].startswith("localhost:")
    return looked[-1] - looked[0]


def test_a_relay_looks_as_often_as_it_should_at_most(learner, monkeypatch):
    steps = iter(range(2, 100))
    assert _run(learner, monkeypatch, 6, lambda: learner.publish(next(steps)), relay_rate=10.0) >= 0.49
    assert _run(learner, monkeypatch, 6, relay_rate=1000.0) < 0.4


def test_a_relay_says_now_and_then_how_far_it_is(learner, monkeypatch, caplog):
    with caplog.at_level("INFO", role.__name__):
        _run(learner, monkeypatch, 12, relay_rate=100.0, log_interval=0.1)
    assert "parameters passed on 1 times; now those of update 1" in caplog.messages


def test_where_parameters_must_be_the_newest_a_relay_is_refused():
    role._check(TOLD, "here:1")
    with pytest.raises(UserError, match="The learner at here:1 has --architecture=a3c"):
        role._check({"settings": {"architecture": "a3c", "policy_lag": -1}}, "here:1")
    with pytest.raises(UserError, match="has --policy_lag=10, which a relay would add to"):
        role._check({"settings": {"architecture": "impala", "policy_lag": 10}}, "here:1")


def test_describing_a_relay_says_what_it_does():
    config = config_lib.from_values({})
    node = nodes.relay(config, "here:1", port=3, name="relay 7")
    assert node.name == "relay 7" and node.restarts
    assert node.work.args == (config, "here:1") and node.work.keywords == {"port": 3, "ready": None}


def test_a_relay_tells_who_wants_to_know_its_address_and_then_the_launcher(monkeypatch):
    told = []
    monkeypatch.setattr(nodes, "say_ready", lambda: told.append("ready"))
    monkeypatch.setattr(role, "run", lambda config, *, address, port, ready: ready(f"{address} at {port}"))
    nodes.relay(config_lib.from_values({}), "here:1", port=3, ready=told.append).work(0)
    assert told == ["here:1 at 3", "ready"]


def test_a_launcher_may_choose_the_port_late(monkeypatch):
    told = []
    monkeypatch.setattr(nodes, "say_ready", lambda: None)
    monkeypatch.setattr(role, "run", lambda config, *, address, port, ready: told.append((address, port)))
    nodes.relay(config_lib.from_values({}), "here:1").work(2, port=4)
    assert told == [("here:1", 4)]

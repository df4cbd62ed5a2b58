"""The learner's end and an actor's end: made and stopped as one thing, through a real Reverb server."""

from __future__ import annotations

import pathlib
import socket
import tempfile
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import environments
from impala_tf.acting.actor import Actor
from impala_tf.config import DataConfig
from impala_tf.environments.counting import check_unroll
from impala_tf.errors import UserError
from impala_tf.networks.agent import Agent
from impala_tf.transport import connection, learner_end, ports
from impala_tf.transport.actor_end import ActorEnd
from impala_tf.transport.learner_end import LearnerEnd
from impala_tf.transport.signatures import unroll_signature
from impala_tf.transport.variables import VariablePublisher
from impala_tf.transport.writer import UnrollWriter

NUM_ENVS, UNROLL_LENGTH, BATCH = 3, 5, 6
SPEC = environments.spec("counting")
DATA = DataConfig(batch_size=BATCH, unroll_length=UNROLL_LENGTH)
THREADS = ("variable-publisher", "batch-queue", "server-watch")


def left_open() -> tuple[list[str], list[str]]:
    """Names of the threads and of the folders that an end may leave behind."""
    threads = [thread.name for thread in threading.enumerate() if thread.name in THREADS]
    return threads, [path.name for path in pathlib.Path(tempfile.gettempdir()).glob("impala_tf_reverb_*")]


@pytest.fixture(autouse=True)
def nothing_is_left_open(tmp_path, monkeypatch):
    """Counts folders in a place of its own: other processes have temporary folders, too."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert left_open() == ([], [])
    yield
    assert left_open() == ([], [])


@pytest.fixture
def agent():
    return Agent(SPEC, torso="mlp", core="none", seed=1)


def _learner_end(agent, data=DATA, **options):
    signature = unroll_signature(SPEC, agent.core_state_spec, UNROLL_LENGTH)
    return LearnerEnd(data, signature, agent.trainable_variables, **options)


def _actor_end(address, agent, unroll_length=UNROLL_LENGTH, timeout=10.0, **options):
    variables = agent.trainable_variables
    return ActorEnd(address, SPEC, agent.core_state_spec, unroll_length, variables, timeout=timeout, **options)


def test_the_whole_way_there_and_back(agent):
    """Unrolls arrive whole and once, parameters as those of their step, and what the learner tells."""
    theirs = Agent(SPEC, torso="mlp", core="none", seed=2)
    told = {"tasks": ["counting"]}
    checked = []
    with _learner_end(theirs, told=told) as learner:
        learner.publish(7)
        assert learner.wait_until_published(10)
        with _actor_end(learner.address, agent, check=checked.append) as actor_end:
            assert actor_end.told == told and checked == [told]
            assert actor_end.learner_step == 7
            for a, b in zip(agent.trainable_variables, theirs.trainable_variables):
                np.testing.assert_array_equal(a, b)
            assert learner.next_batch(timeout=0.1) is None
            environment = environments.make("counting", NUM_ENVS, seed=1)
            write, refresh = actor_end.writer.write, actor_end.refresh
            actor = Actor(environment, agent, write, refresh, UNROLL_LENGTH, seed=1, task_ids=4)
            found = []
            for step in range(8, 12):
                for variable in theirs.trainable_variables:
                    variable.assign_add(tf.ones_like(variable))
                learner.publish(step)
                assert learner.wait_until_published(10)
                for _ in range(BATCH // NUM_ENVS):
                    assert actor.run_unroll() == NUM_ENVS
                batch = learner.next_batch(timeout=20)
                np.testing.assert_array_equal(batch.fresh, [True] * BATCH)
                np.testing.assert_array_equal(batch.unrolls.task_id, [4] * BATCH)
                np.testing.assert_array_equal(batch.unrolls.learner_step[1:], np.full((UNROLL_LENGTH, BATCH), step))
                for a, b in zip(agent.trainable_variables, theirs.trainable_variables):
                    np.testing.assert_array_equal(a, b)
                per_step = batch.unrolls._replace(core_state=(), task_id=())
                for b in range(BATCH):
                    u = tf.nest.map_structure(lambda x: x.numpy()[:, b], per_step)  # noqa: B023
                    check_unroll(u.observation, u.action, u.reward, u.terminated, u.truncated)
                    found.append(tuple(u.observation[0, :2]))
    assert len(set(found)) == 4 * BATCH  # (instance, step): none was given out twice.


def test_the_learners_end_is_stopped_in_order_and_as_often_as_one_likes(agent, monkeypatch):
    stopped = []

    def noted(name, stop):
        return lambda self: (stopped.append(name), stop(self))

    for name, owner in (
        ("sampling", learner_end.BatchQueue),
        ("publishing", VariablePublisher),
        ("serving", learner_end.server.Server),
    ):
        monkeypatch.setattr(owner, "stop", noted(name, owner.stop))
    port = ports.free_port()
    end = _learner_end(agent, port=port)
    assert end.address == f"localhost:{port}"
    end.publish(1)
    for _ in range(2):
        end.stop()
        assert stopped == ["sampling", "publishing", "serving"]
        assert left_open() == ([], [])
        ports.check_free(port)


def test_the_learners_end_stops_with_batches_that_nobody_has_taken(agent):
    with _learner_end(agent, DataConfig(batch_size=BATCH, queue_size=BATCH + 1)) as learner:
        learner.publish(1)
        with _actor_end(learner.address, agent) as actor_end:
            environment = environments.make("counting", NUM_ENVS, seed=1)
            actor = Actor(environment, agent, actor_end.writer.write, actor_end.refresh, UNROLL_LENGTH, seed=1)
            for _ in range(4 * BATCH):  # More than queue, prefetch and the batch in hand can take.
                actor.run_unroll()
            assert not actor_end.writer.flush(0.5)
        start = time.monotonic()
    assert time.monotonic() - start < 3


def test_a_port_in_use_leaves_nothing_open(agent):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        with pytest.raises(UserError, match="--port="):
            _learner_end(agent, port=taken.getsockname()[1])
        assert left_open() == ([], [])


def test_a_queue_that_is_too_small_leaves_nothing_open(agent):
    port = ports.free_port()
    with pytest.raises(UserError, match="--queue_size"):
        _learner_end(agent, DataConfig(batch_size=BATCH, queue_size=BATCH), port=port)
    assert left_open() == ([], [])
    ports.check_free(port)


@pytest.mark.parametrize("part", ["publisher", "dataset", "queue"])
def test_a_part_that_cannot_be_made_leaves_nothing_open(agent, monkeypatch, part):
    def fail(*_arguments):
        raise RuntimeError(part)

    options = {}
    if part == "publisher":
        options["make_publisher"] = fail
    else:
        monkeypatch.setattr(learner_end, {"dataset": "make_dataset", "queue": "BatchQueue"}[part], fail)
    port = ports.free_port()
    with pytest.raises(RuntimeError, match=part):
        _learner_end(agent, port=port, **options)
    assert left_open() == ([], [])
    ports.check_free(port)


def test_another_publisher_may_be_made(agent):
    made = []

    class Publisher:
        def publish(self, learner_step):
            made.append(learner_step)

        def wait_until_pushed(self, timeout):
            return timeout > 1

        def stop(self):
            made.append("stopped")

    def make(address, variables):
        made.append((address, [v.shape for v in variables]))
        return Publisher()

    with _learner_end(agent, make_publisher=make) as end:
        end.publish(3)
        assert end.wait_until_published(2) and not end.wait_until_published(0.5)
        address = end.address
    assert made == [(address, [v.shape for v in agent.trainable_variables]), 3, "stopped"]


@pytest.fixture
def learner(agent):
    with _learner_end(agent, told={"a": 1}) as end:
        end.publish(1)
        yield end


def test_an_actors_end_is_stopped_as_often_as_one_likes(agent, learner, monkeypatch):
    closed, close = [], UnrollWriter.close
    monkeypatch.setattr(UnrollWriter, "close", lambda self: (closed.append(left_open()[0]), close(self)))
    end = _actor_end(learner.address, agent, on_end=print)
    assert "server-watch" in left_open()[0]
    for _ in range(2):
        end.stop()
        assert "server-watch" not in left_open()[0]
    (threads,) = closed
    assert "server-watch" in threads  # The server is watched until nothing waits for it.


def _refuse(told):
    raise UserError(f"refused because of {told}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unroll_length": UNROLL_LENGTH + 1}, r"unrolls do not match .* \[6\] at the learner, .* \[7\] here"),
        ({"check": _refuse}, "refused because of {'a': 1}"),
    ],
)
def test_an_actor_that_does_not_fit_leaves_nothing_open(agent, learner, options, message):
    before = left_open()
    with pytest.raises(UserError, match=message):
        _actor_end(learner.address, agent, on_end=print, **options)
    assert left_open() == before


def test_an_actor_with_other_parameters_leaves_nothing_open(agent, learner):
    before, fewer = left_open(), agent.trainable_variables[:-1]
    with pytest.raises(UserError, match=r"parameters do not match .*: .* at the learner, nothing here"):
        ActorEnd(learner.address, SPEC, agent.core_state_spec, UNROLL_LENGTH, fewer, timeout=10, on_end=print)
    assert left_open() == before


def test_a_learner_that_publishes_nothing_leaves_nothing_open(agent):
    with _learner_end(agent) as learner:
        before = left_open()
        with pytest.raises(UserError, match="published no parameters within 1 s"):
            _actor_end(learner.address, agent, timeout=1.0, on_end=print)
        assert left_open() == before


def test_nobody_who_answers_leaves_nothing_open(agent, monkeypatch):
    monkeypatch.setattr(connection, "_PING_SECONDS", 1)
    with pytest.raises(UserError, match="No learner answered"):
        _actor_end(f"localhost:{ports.free_port()}", agent, timeout=1.0, on_end=print)
    assert left_open() == ([], [])


def test_a_learner_that_goes_away_is_told(agent, monkeypatch):
    monkeypatch.setattr(connection, "_PING_SECONDS", 1)
    lost, messages = threading.Event(), []
    with _learner_end(agent) as learner:
        learner.publish(1)
        end = _actor_end(learner.address, agent, timeout=1.0, on_end=lambda *told: (messages.append(told), lost.set()))
    assert lost.wait(20)
    ((message, finished),) = messages
    assert "has not answered for 1 s" in message and not finished
    end.stop()


def test_a_learner_that_has_finished_says_so(agent, learner, monkeypatch):
    monkeypatch.setattr(learner_end, "TELL_SECONDS", 0.0)
    ended, messages = threading.Event(), []
    end = _actor_end(learner.address, agent, timeout=1.0, on_end=lambda *told: (messages.append(told), ended.set()))
    assert not ended.wait(0.5)  # The thread looks every 0.25 s.
    learner.tell_finished()
    assert ended.wait(20)
    assert messages == [(f"The learner at {learner.address} has finished its run.", True)]
    end.stop()

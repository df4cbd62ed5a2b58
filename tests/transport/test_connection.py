"""Deadlines on the way to a server that may not be there."""

from __future__ import annotations

import socket
import tempfile
import threading
import time

import pytest
import reverb
import tensorflow as tf

from impala_tf.config import DataConfig
from impala_tf.errors import LearnerLost, UserError
from impala_tf.structures import ArraySpec, EnvironmentSpec
from impala_tf.transport import FIELDS, TRAJECTORIES, connection, ports, server
from impala_tf.transport.connection import ServerWatch, read_told, wait_for_server
from impala_tf.transport.signatures import check_same, trajectory_signature, variables_signature

UNROLL = {"x": tf.TensorSpec((), tf.int32)}


def _spec(num_actions=3, shape=(10, 5)):
    return EnvironmentSpec(ArraySpec(shape, tf.uint8.as_numpy_dtype), num_actions, 1)


def _server(unroll=UNROLL, port=0):
    return server.Server(server.load_config(DataConfig()), unroll, [], port)


def _watches():
    return [thread for thread in threading.enumerate() if thread.name == "server-watch"]


def test_nobody_there_is_told_within_the_deadline(monkeypatch):
    monkeypatch.setattr(connection, "_PING_SECONDS", 1)
    start = time.monotonic()
    with pytest.raises(LearnerLost, match="No learner answered"):
        wait_for_server(f"localhost:{ports.free_port()}", timeout=1)
    assert time.monotonic() - start < 15


def test_waiting_for_a_server_is_told(monkeypatch, caplog):
    monkeypatch.setattr(connection, "_REMIND_SECONDS", 0.5)
    monkeypatch.setattr(connection, "_PING_SECONDS", 1)
    address = f"localhost:{ports.free_port()}"
    with caplog.at_level("INFO", "impala_tf"), pytest.raises(UserError):
        wait_for_server(address, timeout=2)
    assert f"waiting for the learner at {address}" in caplog.messages


def test_a_server_that_starts_later_is_found():
    port = ports.free_port()
    started = []
    timer = threading.Timer(1.0, lambda: started.append(_server(port=port)))
    timer.start()
    tables = wait_for_server(f"localhost:{port}", timeout=20)
    assert TRAJECTORIES in tables
    timer.join()
    started[0].stop()


def test_a_server_of_something_else_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # Reverb leaves a folder there.
    monkeypatch.setattr(tempfile, "tempdir", None)
    port = ports.free_port()
    other = reverb.Server([reverb.Table.queue("other", 1)], port=port)
    start = time.monotonic()
    with pytest.raises(UserError, match=r"not a learner of this version .* no table 'run'"):
        wait_for_server(f"localhost:{port}", timeout=60)
    assert time.monotonic() - start < 10
    other.stop()


def test_one_client_asks_while_the_server_answers(monkeypatch):
    """After a failure, it would wait for its back-off."""
    monkeypatch.setattr(connection, "_PING_SECONDS", 1)
    made, make, port = [], reverb.Client, ports.free_port()
    monkeypatch.setattr(reverb, "Client", lambda address: (made.append(address), make(address))[1])
    questions = connection.Questions(address := f"localhost:{port}")
    for count in (1, 2):
        with _server(port=port):
            assert all(TRAJECTORIES in questions.ask() for _ in range(3))
            assert made == [address] * count
        assert questions.ask() is None


@pytest.mark.slow(10)
def test_a_server_that_goes_away_is_noticed(monkeypatch):
    monkeypatch.setattr(connection, "_PING_SECONDS", 1)
    running = _server()
    lost, messages = threading.Event(), []
    watch = ServerWatch(running.address, 1.0, lambda message, _: (messages.append(message), lost.set()))
    assert not lost.wait(1.5)
    running.stop()
    assert lost.wait(20)
    assert running.address in messages[0] and "1 s" in messages[0]
    watch.stop()
    assert not _watches()


def test_a_server_that_is_another_runs_after_a_pause_is_noticed(monkeypatch):
    """Such as one that was started at the same port. What it tells may be the same, after a restart."""
    ask, pause, ended, messages = connection.ask, threading.Event(), threading.Event(), []
    monkeypatch.setattr(connection, "_LOOK_SECONDS", 0.1)
    monkeypatch.setattr(connection, "ask", lambda address: None if pause.is_set() else ask(address))

    def pause_for(seconds):
        pause.set()
        time.sleep(seconds)
        pause.clear()

    with server.Server(server.load_config(DataConfig()), UNROLL, [], 0, {"tasks": ["atari/pong"]}) as running:
        watch = ServerWatch(running.address, 60.0, lambda *told: (messages.append(told), ended.set()))
        watch.expect(connection.read_told(running.address, 10))
        pause_for(0.5)
        assert not ended.wait(1.0)
        watch.expect({"tasks": ["atari/breakout"]})
        assert not ended.wait(0.5)
        read_told, failures = connection.read_told, iter([LearnerLost("it has gone again")])

        def fail_once(*given):
            for failure in failures:
                raise failure
            return read_told(*given)

        monkeypatch.setattr(connection, "read_told", fail_once)
        pause_for(0.5)
        assert ended.wait(20)
        watch.stop()
    assert messages == [
        (f"The learner at {running.address} is another run's now, or has other settings than before.", False)
    ]


@pytest.mark.parametrize("listens", [True, False])
def test_a_server_that_does_not_tell_is_waited_for_until_the_deadline(listens):
    """Such as one that is stopped, or whose machine is lost, right after it has answered."""
    with socket.create_server(("localhost", 0)) as silent:
        address = f"localhost:{silent.getsockname()[1]}"
        if not listens:
            silent.close()
        start = time.monotonic()
        with pytest.raises(LearnerLost, match=f"The server at {address} has answered, but does not tell"):
            read_told(address, 0.5)
    assert 0.4 < time.monotonic() - start < 10


def test_a_watch_that_was_stopped_reports_nothing(monkeypatch):
    """Also where the server does not answer a question that is on its way."""
    asked, answer, messages = threading.Event(), threading.Event(), []

    def ask(_address):
        asked.set()
        answer.wait(10)

    monkeypatch.setattr(connection, "ask", ask)
    watch = ServerWatch("localhost:1", 0.1, lambda *told: messages.append(told))
    assert asked.wait(10)
    time.sleep(0.2)  # The server has been silent for longer than its deadline.
    watch._stop.set()
    answer.set()
    watch.stop()
    assert not _watches()
    assert messages == []


def test_a_watch_may_be_stopped_from_its_own_thread(monkeypatch):
    monkeypatch.setattr(connection, "_PING_SECONDS", 1)
    stopped = threading.Event()
    watch = ServerWatch(f"localhost:{ports.free_port()}", 0.1, lambda *_: (watch.stop(), stopped.set()))
    assert stopped.wait(20)


def test_equal_signatures_agree_after_the_wire():
    signature = trajectory_signature(_spec(), (ArraySpec((4,), tf.float32.as_numpy_dtype),), 5)
    with _server(signature) as running:
        tables = wait_for_server(running.address, 10)
        check_same("unrolls", tables[FIELDS].signature, signature)


@pytest.mark.parametrize(
    ("theirs", "ours", "named"),
    [
        (_spec(), _spec(num_actions=4), "behaviour_logits"),
        (_spec(), _spec(shape=(84, 84, 4)), "observation"),
    ],
)
def test_different_signatures_are_refused_with_the_difference(theirs, ours, named):
    with pytest.raises(UserError, match=named):
        check_same("unrolls", trajectory_signature(theirs, (), 5), trajectory_signature(ours, (), 5))


def test_another_unroll_length_is_refused():
    with pytest.raises(UserError, match=r"int32 \[6\] at the learner, int32 \[11\] here"):
        check_same("unrolls", trajectory_signature(_spec(), (), 5), trajectory_signature(_spec(), (), 10))


def test_other_parameters_are_refused_and_only_the_first_three_named():
    theirs, ours = [tf.zeros([n]) for n in range(5)], [tf.zeros([n + 1]) for n in range(6)]
    message = r"variables\.0: float32 \[0\] at the learner, float32 \[1\] here; .* \(and 3 more\)"
    with pytest.raises(UserError, match=message):
        check_same("parameters", variables_signature(theirs), variables_signature(ours))

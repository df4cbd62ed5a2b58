"""Deadlines on the way to a server that may not be there."""

import threading
import time

import pytest
import tensorflow as tf

from impala_tf.errors import UserError
from impala_tf.structures import ArraySpec, EnvironmentSpec
from impala_tf.transport import TRAJECTORIES, ports, server
from impala_tf.transport.connection import ServerWatch, wait_for_server
from impala_tf.transport.signatures import check_same, trajectory_signature


def _spec(num_actions=3, shape=(10, 5)):
    return EnvironmentSpec(ArraySpec(shape, tf.uint8.as_numpy_dtype), num_actions, 1)


def test_nobody_there_is_told_within_the_deadline():
    start = time.monotonic()
    with pytest.raises(UserError, match="No learner answered"):
        wait_for_server(f"localhost:{ports.free_port()}", timeout=1, say=lambda _: None)
    assert time.monotonic() - start < 15


def test_a_server_that_starts_later_is_found():
    port = ports.free_port()
    started = []
    timer = threading.Timer(1.0, lambda: started.append(server.Server(server.load_config("on_policy"), {}, port)))
    timer.start()
    tables = wait_for_server(f"localhost:{port}", timeout=20, say=lambda _: None)
    assert TRAJECTORIES in tables
    timer.join()
    started[0].stop()


def test_a_server_that_goes_away_is_noticed():
    running = server.Server(server.load_config("on_policy"), {}, port=0)
    lost, messages = threading.Event(), []
    watch = ServerWatch(running.address, 1.0, lambda message: (messages.append(message), lost.set()))
    assert not lost.wait(1.5)
    running.stop()
    assert lost.wait(20)
    assert running.address in messages[0]
    watch.stop()


def test_equal_signatures_agree_after_the_wire():
    signature = trajectory_signature(_spec(), (ArraySpec((4,), tf.float32.as_numpy_dtype),), 5)
    with server.Server(server.load_config("on_policy"), {TRAJECTORIES: signature}, port=0) as running:
        tables = wait_for_server(running.address, 10, lambda _: None)
        check_same("unrolls", tables[TRAJECTORIES].signature, signature)


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

"""What `impala-scaling --parameters` measures, in this process and with real servers."""

from __future__ import annotations

import contextlib
import time

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import config
from impala_tf.benchmark import parameters, setup
from impala_tf.benchmark.measure import Measurement, repeat
from impala_tf.networks.agent import make_agent
from impala_tf.transport import ports

SETUP = setup.resolve(config.from_values({"env": "catch", "batch_size": 8, "envs_per_actor": 8}))


@pytest.fixture(autouse=True)
def as_in_a_process_of_its_own(monkeypatch):
    """TensorFlow is in use already, and what ends with a process must be stopped here."""
    for name in ("set_intra_op_parallelism_threads", "set_inter_op_parallelism_threads"):
        monkeypatch.setattr(tf.config.threading, name, lambda number: None)
    made = []

    def noting(make):
        return lambda *arguments, **options: (made.append(make(*arguments, **options)), made[-1])[1]

    for owner, name in ((parameters.server, "Server"), (parameters, "VariablePublisher"), (parameters, "Relay")):
        monkeypatch.setattr(owner, name, noting(getattr(owner, name)))
    yield
    for one in reversed(made):
        one.stop()


@pytest.fixture
def pulled(monkeypatch):
    """The variables of the agents that were made, in order."""
    made = []

    def make(*arguments):
        made.append(make_agent(*arguments))
        return made[-1]

    monkeypatch.setattr(parameters, "make_agent", make)
    return made


def test_parameters_pass_through_publisher_relay_and_puller(pulled):
    port, own = ports.free_port(), ports.free_port()
    publish = parameters.publisher(SETUP, port, 1000.0, "float32")
    relay = parameters.relay(f"localhost:{port}", own)
    pull = parameters.puller(SETUP, f"localhost:{own}", 2, 1000.0, "float32")
    theirs = pulled[0].trainable_variables
    theirs[0].assign_add(tf.ones_like(theirs[0]))
    assert relay() == 0
    assert publish() == relay() == 1
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:  # The relay passes on from a thread of its own.
        assert pull() == pull() == 1
        if all(np.array_equal(ours.trainable_variables[0], theirs[0]) for ours in pulled[1:]):
            return
    pytest.fail("what was published did not arrive")


def test_half_of_the_bits_travel_and_are_the_nearest(pulled):
    port = ports.free_port()
    publish = parameters.publisher(SETUP, port, 0.0, "bfloat16")
    pull = parameters.puller(SETUP, f"localhost:{port}", 1, 1000.0, "bfloat16")
    assert (publish(), pull()) == (0, 1)
    for ours, theirs in zip(pulled[1].trainable_variables, pulled[0].trainable_variables, strict=True):
        np.testing.assert_array_equal(ours, tf.cast(tf.cast(theirs, tf.bfloat16), tf.float32))


def test_costs_are_per_unroll_and_per_pull(monkeypatch):
    measured = {
        "learner_host": Measurement(frames=2000, seconds=2.0, cpu_seconds=0.5),
        "transport": Measurement(frames=1000, seconds=2.0, cpu_seconds=0.1, bytes=50_000),
        "publisher": Measurement(frames=10, seconds=1.0, cpu_seconds=0.2),
        "puller": Measurement(frames=20, seconds=1.0, cpu_seconds=0.1, bytes=4000),
    }
    monkeypatch.setattr(parameters, "_measured", lambda seconds, *works: [measured[w[0].__name__] for w in works])
    assert parameters._unrolls(SETUP, 1.0) == pytest.approx(
        {"unroll_host_cpu_ms": 5.0, "unroll_actor_cpu_ms": 2.0, "bytes_per_unroll": 1000.0}
    )
    assert parameters._wire(SETUP, "bfloat16", 1.0) == {
        "dtype": "bfloat16",
        "publish_cpu_ms": pytest.approx(20.0),
        "pull_host_cpu_ms": pytest.approx(10.0),
        "pull_actor_cpu_ms": pytest.approx(5.0),
        "bytes_per_pull": 200.0,
        "pulls": 20,
    }


def test_the_table_has_all_rows():
    row = {"actors": 8, "relay": True, "learner_cores": 0.123}
    text = parameters.table({"constants": {"a": 1.0}, "wire": [{"dtype": "float32"}], "pulling": [row, row]})
    assert "a  1.000" in text
    assert text.splitlines()[-1].split() == ["8", "True", "0.12"]


class _Here(contextlib.AbstractContextManager):
    """Stands in for `Bench`: works in this process, one after the other."""

    def __init__(self, prepare, *arguments):
        self._step = prepare(*arguments)

    def wait_until_ready(self, timeout):
        pass

    def begin(self, seconds):
        self._seconds = seconds

    def end(self, timeout):
        return repeat(self._step, self._seconds)

    def __exit__(self, *_):
        pass


def test_rows_for_directly_and_for_a_relay(monkeypatch):
    monkeypatch.setattr(parameters, "Bench", _Here)
    monkeypatch.setattr(parameters, "_PROCESSES", (1, 2))
    monkeypatch.setattr(parameters, "_PULLERS", 2)
    for relayed in (False, True):
        rows = parameters._pulling(SETUP, relayed, 0.3)
        assert [(row["actors"], row["relay"]) for row in rows] == [(2, relayed), (4, relayed)]
        for row in rows:
            assert row["pulls_per_second"] > 1 and row["publications_per_second"] > 1
            assert row["learner_cores"] > 0 and row["actor_cpu_ms_per_pull"] > 0
            assert (row["relay_cores"] > 0) == relayed
            assert (row["relay_cpu_ms_per_publication"] > 0) == relayed

"""Learners that meet before they connect: threads that talk through real sockets."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from impala_tf.errors import UserError
from impala_tf.transport import ports, rendezvous


@pytest.fixture
def pool():
    with ThreadPoolExecutor(4) as threads:
        yield threads


def _addresses(count: int) -> list[str]:
    return [f"localhost:{ports.free_port()}" for _ in range(count)]


def _meet(addresses, rank, settings=None, timeout=20.0, **options):
    rendezvous.meet(addresses, rank, settings or {"discount": 0.99}, timeout, **options)


def _connected(host: str, port: int) -> socket.socket:
    for _ in range(200):  # It may not listen yet.
        try:
            return socket.create_connection((host, port), 5)
        except OSError:
            threading.Event().wait(0.1)
    raise AssertionError("nobody listens")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_all_go_on_once_the_last_has_come(pool, order):
    addresses = _addresses(3)
    first = [pool.submit(_meet, addresses, rank) for rank in order[:2]]
    with pytest.raises(TimeoutError):
        first[0].result(0.5)
    assert not first[1].done()
    last = pool.submit(_meet, addresses, order[2])
    for each in (*first, last):
        each.result(10)
    ports.check_free(int(addresses[0].rpartition(":")[2]))


def test_learner_0_names_those_who_are_missing(pool):
    addresses = _addresses(3)
    other = pool.submit(_meet, addresses, 2, timeout=3.0)
    with pytest.raises(UserError, match=rf"within 1 s\. Missing: learner 1 \({addresses[1]}\)\. Are they running"):
        _meet(addresses, 0, timeout=1.0)
    with pytest.raises(UserError, match=rf"this one waited for the others, as does learner 0 \({addresses[0]}\)"):
        other.result(10)


def test_the_others_name_learner_0():
    addresses = _addresses(2)
    with pytest.raises(UserError, match=rf"within 0\.3 s: this one waited for learner 0 \({addresses[0]}\)"):
        _meet(addresses, 1, timeout=0.3)


def test_only_learners_count(pool):
    addresses = _addresses(3)
    host, _, port = addresses[0].rpartition(":")
    leader = pool.submit(_meet, addresses, 0)
    other = pool.submit(_meet, addresses, 2)
    hello = b'{"rank": 1, "num_learners": 3, "discount": 0.99}\n'
    for said in (b"GET / HTTP/1.1\n", b"[1]\n", b'{"rank": 7}\n', hello[:9], hello[:9] + b"\n"):
        connection = _connected(host, int(port))
        connection.sendall(said)
        connection.close()
    with pytest.raises(TimeoutError):
        leader.result(1.0)
    _meet(addresses, 1)
    leader.result(10)
    other.result(10)


def test_a_hello_may_come_late_and_one_that_never_comes_is_not_waited_for(pool):
    addresses = _addresses(2)
    host, _, port = addresses[0].rpartition(":")
    leader = pool.submit(_meet, addresses, 0)
    silent, late = (_connected(host, int(port)) for _ in range(2))
    threading.Event().wait(1.0)
    late.sendall(b'{"rank": 1, "num_learners": 2, "discount": 0.99}\n')
    leader.result(10)
    assert json.loads(late.makefile().readline()) == {}
    silent.close()
    late.close()


def test_of_two_learners_with_one_number_the_first_is_told(pool):
    addresses = _addresses(3)
    leader = pool.submit(_meet, addresses, 0)
    first = pool.submit(_meet, addresses, 1)
    with pytest.raises(TimeoutError):
        first.result(1.0)
    second = pool.submit(_meet, addresses, 1)
    with pytest.raises(UserError, match="another learner 1 has come; each has its own --learner_id"):
        first.result(10)
    _meet(addresses, 2)
    second.result(10)
    leader.result(10)


def test_settings_that_differ_are_named_on_both_sides(pool):
    addresses = _addresses(2)
    leader = pool.submit(_meet, addresses, 0, {"discount": 0.99, "unroll_length": 20})
    other = "--discount: 0.99 at learner 0, 0.9 there"
    with pytest.raises(UserError, match=rf"Learner 1 does not fit learner 0 \({addresses[0]}\): {other}\."):
        _meet(addresses, 1, {"discount": 0.9, "unroll_length": 20})
    with pytest.raises(UserError, match=f"Learner 1 does not fit learner 0: {other}"):
        leader.result(10)


def test_another_number_of_learners_is_a_difference(pool):
    addresses = _addresses(3)
    leader = pool.submit(_meet, addresses[:2], 0)
    with pytest.raises(UserError, match="--num_learners: 2 at learner 0, 3 there"):
        _meet(addresses, 1)
    with pytest.raises(UserError, match="--num_learners: 2 at learner 0, 3 there"):
        leader.result(10)


@pytest.mark.parametrize("rank", [0, 1])
def test_the_wait_can_be_ended(pool, rank):
    stop, beats = threading.Event(), []

    def beat():
        beats.append(1)
        if len(beats) == 2:
            stop.set()

    with pytest.raises(UserError, match="was asked to end while it waited"):
        _meet(_addresses(2), rank, beat=beat, stop=stop)


def test_a_port_that_is_taken_is_named():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        address = f"localhost:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match=f"Learner 0 cannot listen at {address}"):
            _meet([address, "localhost:1"], 0)

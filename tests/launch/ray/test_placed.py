"""A host as the driver sees it, with answers that the test gives in place of Ray."""

from __future__ import annotations

import functools

import pytest
from ray.exceptions import RayTaskError

from impala_tf.errors import UserError
from impala_tf.launch.ray import placed as placed_lib
from impala_tf.launch.ray.host import Report, Stop
from impala_tf.launch.ray.placed import Placed

IDLE = Report("life", 1, 0, "10.0.0.1", "node", 4, (5001, 5002), False, False, None, False, "", False, False, 0, ())


class FakeRay:
    """Answers at once with what it is told; None: not at all."""

    def __init__(self):
        self.answer: Report | Exception | None = IDLE
        self.asked: list[tuple] = []
        self.now = 1000.0
        self.placed = 0
        self.exchange = self

    def place(self):
        self.placed += 1
        return self

    def remote(self, *arguments):
        self.asked.append(arguments)
        return "promise"

    def wait(self, promises, timeout):
        return (promises, []) if self.answer is not None else ([], promises)

    def get(self, _promise):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def kill(self, _actor):
        pass


@pytest.fixture
def ray(monkeypatch):
    made = FakeRay()
    monkeypatch.setattr(placed_lib, "ray", made)
    monkeypatch.setattr("time.monotonic", lambda: made.now)
    return made


def test_an_order_that_cannot_be_read_on_a_machine_ends_the_run(ray):
    host = Placed("actor 3", ray.place)
    host.look()
    host.look()
    host.give(functools.partial(Stop, seconds=1.0))
    ray.now += 2
    host.look()
    host.look()
    cause = ModuleNotFoundError("No module named 'my_levels'")
    text = f"Traceback (most recent call last):\n  File x, line 3, in y\nModuleNotFoundError: {cause}\n"
    ray.answer = RayTaskError("exchange", text, cause, "host", 1, "10.0.0.1").as_instanceof_cause()
    wanted = r"^The host of actor 3 on 10\.0\.0\.1 cannot do what it is told: .*No module named 'my_levels'$"
    with pytest.raises(UserError, match=wanted):
        host.look()
    assert ray.asked[-1][1] == Stop(1, 1.0)
    ray.answer, ray.now = IDLE, ray.now + 2
    host.look()
    assert ray.asked[-1][1] is None


def test_a_silent_host_is_replaced_less_and_less_often(ray, caplog):
    host = Placed("actor 3", ray.place)
    host.look()
    host.look()

    def later(seconds):
        for _ in range(seconds):
            ray.now += 1.0
            host.look()

    later(2)
    ray.answer = None
    later(1000)
    assert ray.placed == 1 + 3 == 1 + len(caplog.messages)  # After 90, 270 and 630 s.
    assert not host.answers
    ray.answer = IDLE
    later(2)
    assert host.answers
    ray.answer = None
    later(100)
    assert ray.placed == 1 + 4

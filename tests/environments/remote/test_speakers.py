"""Which of many environments that fail alike is shown."""

from __future__ import annotations

from impala_tf.environments.remote import speakers
from impala_tf.environments.remote.speakers import Speakers


def test_one_speaks_for_all_with_the_same_cause(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(speakers.time, "monotonic", lambda: now[0])
    its = Speakers()
    assert [its.may_say(worker, "level 1", f"no map /tmp/{worker}") for worker in (3, 1, 2, 3)] == [
        True,
        False,
        False,
        True,
    ]
    assert its.may_say(1, "level 1", "no memory") and its.may_say(4, "level 2", "no map /tmp/4")
    assert [worker for worker in range(5) if its.speaks(worker)] == [1, 3, 4]
    now[0] += 50
    assert its.may_say(3, "level 1", "no map ") and not its.may_say(1, "level 1", "no map ")
    now[0] += 50
    assert [its.may_say(worker, "level 1", f"no map /tmp/{worker}") for worker in (1, 3)] == [False, True]
    now[0] += 61  # The third is silent: it may work again.
    assert [its.may_say(worker, "level 1", f"no map /tmp/{worker}") for worker in (1, 3)] == [True, False]
    assert [worker for worker in range(5) if its.speaks(worker)] == [1]

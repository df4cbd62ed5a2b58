"""Starting Ray for a population: what is said, and what ends it. `run/test_pbt.py` trains one."""

from __future__ import annotations

import threading

import pytest

from impala_tf.errors import UserError

ray = pytest.importorskip("ray")
on_ray = pytest.importorskip("impala_tf.experiments.population.on_ray")


@pytest.fixture
def stop(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    return threading.Event()


def test_a_ray_that_does_not_start_is_tried_three_times_and_each_is_said(stop, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(ray, "init", lambda **_: 1 / 0)
    with pytest.raises(UserError, match=r"after 3 tries; the machine may be overloaded; run it again: division by"):
        on_ray._connect(1, stop)
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "starting Ray",
        *["Ray cannot be started on this machine yet"] * 2,
    ]
    assert caplog.records[-1].message.endswith("try 3 of 3")


def test_a_ray_that_is_interrupted_while_it_starts_is_no_fault(stop, monkeypatch):
    def interrupted(**_):
        stop.set()
        raise RuntimeError("its processes have ended, too")

    monkeypatch.setattr(ray, "init", interrupted)
    assert not on_ray._connect(1, stop)

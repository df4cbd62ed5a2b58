"""Environments in processes of their own, with a real policy: named and restarted one by one when they fail."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import signal
import sys
import time

import numpy as np
import pytest
import tree

from impala_tf import environments
from impala_tf.acting import dynamic_batching
from impala_tf.acting.dynamic_batching import DynamicBatching
from impala_tf.environments.counting import check_unroll
from impala_tf.environments.remote.pool import WorkerPool
from impala_tf.errors import UserError
from impala_tf.networks.agent import Agent
from impala_tf.processes.timings import Timings

UNROLL_LENGTH = 5

_MODULE = """
import gymnasium, numpy as np, pathlib, time

class Env(gymnasium.Env):
    "Shows its number and its steps; a file of its name in the folder of this module says how it fails."
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, number, fails):
        self.number, self.fails, self.steps = number, fails, 0
        if fails == "make" or (fails == "make again" and self.first()):
            raise gymnasium.error.DependencyNotInstalled("no engine")

    def first(self):
        try:
            pathlib.Path(__file__).with_name(f"seen_{self.number}").touch(exist_ok=False)
            return False
        except FileExistsError:
            return True

    def reset(self, *, seed=None, options=None):
        if self.fails == "slow reset":
            time.sleep(1.5)
        return np.array([self.number, self.steps], np.float32), {}

    def step(self, action):
        self.steps += 1
        if not self.fails:
            time.sleep(0.002)  # It acts all the time that others take to fail; so it leaves them the processor.
        if self.steps == 20 and self.fails == "raise":
            raise RuntimeError("the engine\\nstopped")
        if self.steps == 20 and self.fails == "hang":
            time.sleep(600)
        return np.array([self.number, self.steps], np.float32), 1.0, self.steps % 8 == 0, False, {}

for number, fails in enumerate(["", "raise", "hang", "slow reset", "make", "make again"]):
    gymnasium.register(f"Env{number}-v0", entry_point=Env, kwargs=dict(number=number, fails=fails))
"""
FINE, RAISES, HANGS, SLOW, CANNOT, LATER = (f"gymnasium/pool_envs:Env{number}-v0" for number in range(6))


@pytest.fixture(autouse=True)
def package(tmp_path, monkeypatch):
    (tmp_path / "pool_envs.py").write_text(_MODULE)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield
    sys.modules.pop("pool_envs", None)


class _Recorder:
    """A writer that keeps copies of all unrolls, in the order in which they were finished."""

    def __init__(self):
        self.unrolls = []

    def write(self, unroll):
        self.unrolls.append(tree.map_structure(np.array, unroll._replace(core_state=())))

    def flush(self, timeout, unconfirmed=0):
        return True


@contextlib.contextmanager
def _acting(env_ids, deadline=60.0):
    """Yields (the inference, its recorder, the pool)."""
    spec = environments.spec(env_ids[0])
    pool, recorder = WorkerPool(spec, env_ids, {}, seed=1, deadline=deadline), _Recorder()
    tasks = [number + 10 for number in range(len(env_ids))]
    timings = Timings(dynamic_batching.ACTIVITIES)
    inference = DynamicBatching(
        pool, Agent(spec, torso="mlp"), recorder, lambda: 0, UNROLL_LENGTH, tasks, 1, timings, lambda spent: None, 9.0
    )
    inference.start()
    try:
        yield inference, recorder, pool
    finally:
        inference.stop(timeout=30)
        pool.close()


def _unrolls(inference, recorder, until, seconds=60.0):
    """Waits until `until(unrolls)`; returns the unrolls so far."""
    end = time.monotonic() + seconds
    while not until(found := list(recorder.unrolls)):
        inference.check()
        assert time.monotonic() < end, len(found)
        time.sleep(0.02)
    return found


def _of(unrolls, task):
    return [unroll for unroll in unrolls if unroll.task_id == task]


def test_every_unroll_is_whole_and_they_overlap(caplog):
    with _acting(["counting"] * 3) as (inference, recorder, _):
        tasks = (10, 11, 12)
        unrolls = _unrolls(inference, recorder, lambda found: min(len(_of(found, task)) for task in tasks) >= 10)
    for u in unrolls:
        check_unroll(u.observation, u.action, u.reward, u.terminated, u.truncated)
    for task in tasks:
        its = _of(unrolls, task)
        assert len({int(u.observation[0, 0]) for u in its}) == 1
        for earlier, later in itertools.pairwise(its):
            np.testing.assert_array_equal(earlier.observation[-1], later.observation[0])
    assert not caplog.messages


def test_a_slow_reset_does_not_stop_the_others(caplog):
    with _acting([FINE, SLOW]) as (inference, recorder, _):
        unrolls = _unrolls(inference, recorder, lambda found: len(_of(found, 11)) >= 3)
    # An episode of the slow one takes 8 steps and 1.5 seconds; its three unrolls span two resets.
    assert len(_of(unrolls, 10)) > 10 * len(_of(unrolls, 11))
    assert not caplog.messages


@pytest.mark.slow(6)
@pytest.mark.parametrize(
    ("env_id", "deadline", "cause"),
    [(RAISES, 60.0, "RuntimeError: the engine stopped"), (HANGS, 2.0, "it did not answer within 2 s")],
)
def test_one_that_fails_is_named_and_started_again_and_the_others_go_on(env_id, deadline, cause, caplog):
    """Another that fails alike has its line in the log file only."""
    caplog.set_level(logging.INFO, "impala_tf.environments")

    def told(level=logging.WARNING):
        return [record.getMessage() for record in caplog.records if record.levelno == level]

    with _acting([FINE, env_id, env_id], deadline) as (inference, recorder, _):
        enough = lambda found: len(told()) >= 3 and min(len(_of(found, task)) for task in (11, 12)) >= 4  # noqa: E731
        unrolls = _unrolls(inference, recorder, enough)
    lines = [
        f"{env_id} failed ({cause}); starting it again in 0.5 s",
        f"{env_id} has been started again",
        f"{env_id} failed ({cause}); starting it again in 1 s",
    ]
    assert told()[:3] == lines and told(logging.INFO)[:2] == lines[:2]
    for u in unrolls:  # Nothing of different lives is mixed.
        np.testing.assert_array_equal(np.diff(u.observation[:, 1]), [1] * UNROLL_LENGTH)
    for task in (11, 12):
        assert [u.observation[0, 1] for u in _of(unrolls, task)][:4] == [0, 5, 10, 0]


def test_one_that_is_killed_is_started_again(caplog):
    with _acting([FINE, FINE]) as (inference, recorder, pool):
        _unrolls(inference, recorder, lambda found: len(_of(found, 11)) >= 2)
        os.kill(pool._workers[1].process.process.pid, signal.SIGKILL)
        began = lambda found: sum(u.observation[0, 1] == 0 for u in _of(found, 11)) == 2  # noqa: E731
        _unrolls(inference, recorder, began)
        pids = [worker.process.process.pid for worker in pool._workers]
    assert caplog.messages == [
        f"{FINE} failed (its process was ended by SIGKILL); starting it again in 0.5 s",
        f"{FINE} has been started again",
    ]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_one_that_cannot_be_made_is_told():
    message = re.escape(f"{CANNOT} needs a package that is not installed: no engine")
    with _acting([FINE, CANNOT]) as (inference, recorder, pool):
        with pytest.raises(UserError, match=message):
            _unrolls(inference, recorder, lambda found: False)
        assert all(worker.process.status is not None for worker in pool._workers)


def test_one_that_can_no_longer_be_made_is_tried_again(caplog):
    """It has worked before, so the user has made no mistake."""
    with _acting([FINE, LATER]) as (inference, recorder, pool):
        _unrolls(inference, recorder, lambda found: len(_of(found, 11)) >= 1)
        os.kill(pool._workers[1].process.process.pid, signal.SIGKILL)
        _unrolls(inference, recorder, lambda found: len(caplog.messages) >= 2)
    cause = f"{LATER} needs a package that is not installed: no engine"
    assert caplog.messages[1] == f"{LATER} failed ({cause}); starting it again in 1 s"

"""Environments in processes of their own, with a real policy and a real Reverb server."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import environments
from impala_tf.acting.dynamic_batching import DynamicBatching
from impala_tf.environments.remote.pool import WorkerPool
from impala_tf.environments.counting import check_unroll
from impala_tf.errors import UserError
from impala_tf.networks.agent import Agent
from impala_tf.transport import TRAJECTORIES, server
from impala_tf.transport.dataset import BatchQueue, make_dataset
from impala_tf.transport.signatures import trajectory_signature
from impala_tf.transport.writer import UnrollWriter

UNROLL_LENGTH, BATCH = 5, 2

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
            time.sleep(4)
        return np.array([self.number, self.steps], np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.steps == 20 and self.fails == "raise":
            raise RuntimeError("the engine\\nstopped")
        if self.steps == 20 and self.fails == "hang":
            time.sleep(600)
        return np.array([self.number, self.steps], np.float32), 1.0, self.steps % 8 == 0, False, {}

for number, fails in enumerate(["", "raise", "hang", "slow reset", "make", "make again"]):
    gymnasium.register(f"Env{number}-v0", entry_point=Env, kwargs=dict(number=number, fails=fails))
"""
FINE, RAISES, HANGS, SLOW, CANNOT = (f"gymnasium/pool_envs:Env{number}-v0" for number in range(5))


@pytest.fixture(autouse=True)
def package(tmp_path, monkeypatch):
    (tmp_path / "pool_envs.py").write_text(_MODULE)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield
    sys.modules.pop("pool_envs", None)


@contextlib.contextmanager
def _acting(env_ids, deadline=60.0):
    """(the inference, batches, what was said, the pool)"""
    spec, said = environments.spec(env_ids[0]), []
    agent = Agent(spec, torso="mlp")
    signature = trajectory_signature(spec, agent.core_state_spec, UNROLL_LENGTH)
    with server.Server(server.load_config("on_policy"), {TRAJECTORIES: signature}, port=0) as running:
        pool = WorkerPool(spec, env_ids, {}, seed=1, deadline=deadline, warn=said.append)
        writer = UnrollWriter(running.address)
        tasks = [number + 10 for number in range(len(env_ids))]
        inference = DynamicBatching(
            pool, agent, writer, lambda: 0, UNROLL_LENGTH, tasks, seed=1, say=lambda _: None, log_interval=9.0
        )
        batches = BatchQueue(make_dataset(running.address, signature, BATCH), prefetch=1)
        inference.start()
        try:
            yield inference, batches, said, pool
        finally:
            inference.stop(timeout=5)
            pool.close()
            batches.stop()


def _unrolls(inference, batches, until, seconds=60.0):
    """[unroll, ...] in the order of arrival, until `until(them)`."""
    found, end = [], time.monotonic() + seconds
    while not until(found):
        inference.check()
        assert time.monotonic() < end, len(found)
        if (batch := batches.get(timeout=0.5)) is not None:
            for b in range(BATCH):
                columns = tf.nest.map_structure(lambda x: x.numpy(), batch._replace(core_state=(), task_id=()))
                unroll = tf.nest.map_structure(lambda x: x[:, b], columns)  # noqa: B023
                found.append(unroll._replace(task_id=int(batch.task_id[b])))
    return found


def _of(unrolls, task):
    return [unroll for unroll in unrolls if unroll.task_id == task]


def test_every_unroll_is_whole_and_they_overlap():
    with _acting(["counting"] * 3) as (inference, batches, said, _):
        unrolls = _unrolls(inference, batches, lambda found: len(found) >= 40)
    for u in unrolls:
        check_unroll(u.observation, u.action, u.reward, u.terminated, u.truncated)
    assert {u.task_id for u in unrolls} == {10, 11, 12}
    for task in (10, 11, 12):
        its = _of(unrolls, task)
        assert len({int(u.observation[0, 0]) for u in its}) == 1
        for earlier, later in itertools.pairwise(its):
            np.testing.assert_array_equal(earlier.observation[-1], later.observation[0])
    assert not said


def test_a_slow_reset_does_not_stop_the_others():
    with _acting([FINE, SLOW]) as (inference, batches, said, _):
        unrolls = _unrolls(inference, batches, lambda found: len(_of(found, 11)) >= 3)
    # An episode of the slow one takes 8 steps and 4 seconds; its three unrolls span two resets.
    assert len(_of(unrolls, 10)) > 20 * len(_of(unrolls, 11))
    assert not said


@pytest.mark.parametrize(
    ("env_id", "deadline", "cause"),
    [(RAISES, 60.0, "RuntimeError: the engine stopped"), (HANGS, 3.0, "it did not answer within 3 s")],
)
def test_one_that_fails_is_named_and_started_again_and_the_others_go_on(env_id, deadline, cause):
    with _acting([FINE, env_id], deadline) as (inference, batches, said, _):
        unrolls = _unrolls(inference, batches, lambda found: len(said) >= 3 and len(_of(found, 11)) >= 7)
    assert said[:2] == [f"{env_id} failed ({cause}); starting it again in 0.5 s", f"{env_id} is started again"]
    assert said[2] == f"{env_id} failed ({cause}); starting it again in 1 s"
    for u in unrolls:  # Nothing of different lives is mixed.
        np.testing.assert_array_equal(np.diff(u.observation[:, 1]), [1] * UNROLL_LENGTH)
    starts = [u.observation[0, 1] for u in _of(unrolls, 11)]
    assert starts[:7] == [0, 5, 10, 0, 5, 10, 0]


def test_one_that_is_killed_is_started_again():
    with _acting([FINE, FINE]) as (inference, batches, said, pool):
        _unrolls(inference, batches, lambda found: len(_of(found, 11)) >= 2)
        os.kill(pool._workers[1].process.process.pid, signal.SIGKILL)
        unrolls = _unrolls(inference, batches, lambda found: len(said) == 2 and len(_of(found, 11)) >= 10)
        pids = [worker.process.process.pid for worker in pool._workers]
    assert said[0] == f"{FINE} failed (its process was ended by SIGKILL); starting it again in 0.5 s"
    assert any(u.observation[0, 1] == 0 for u in _of(unrolls, 11))
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_one_that_cannot_be_made_is_told():
    message = re.escape(f"{CANNOT} needs a package that is not installed: no engine")
    with _acting([FINE, CANNOT]) as (inference, batches, _, _), pytest.raises(UserError, match=message):
        _unrolls(inference, batches, lambda found: False, seconds=30)

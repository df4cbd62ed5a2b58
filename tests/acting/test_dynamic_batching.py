"""Central inference with real environments and a real Reverb server; the workers are threads."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import environments
from impala_tf.acting import dynamic_batching
from impala_tf.acting.dynamic_batching import DynamicBatching
from impala_tf.config import DataConfig
from impala_tf.environments.counting import check_unroll
from impala_tf.environments.remote.mailbox import PolicyMailbox
from impala_tf.errors import UserError
from impala_tf.networks.agent import Agent
from impala_tf.processes.timings import Timings
from impala_tf.structures import AgentInput
from impala_tf.transport import server
from impala_tf.transport.learner_end import LearnerEnd
from impala_tf.transport.local_variables import LocalVariables
from impala_tf.transport.signatures import unroll_signature
from impala_tf.transport.writer import UnrollWriter

WORKERS, NUM_ENVS, UNROLL_LENGTH, BATCH = 3, 2, 5, 6


class _Worker(threading.Thread):
    """Steps environments as an environment process does, `steps` times, and a little slower than the others."""

    def __init__(self, mailbox, environment, pause, steps=10**9):
        super().__init__(daemon=True)
        self._mailbox, self._environment, self._pause, self._steps = mailbox, environment, pause, steps
        self.stopped = threading.Event()

    def run(self):
        self._mailbox.open()
        self._mailbox.put(self._environment.reset())
        for _ in range(self._steps):
            while (action := self._mailbox.actions(0.05)) is None:
                if self.stopped.is_set():
                    return
            time.sleep(self._pause)
            self._mailbox.put(self._environment.step(action))


def _inference(mailbox, policy, writer, refresh, report=lambda spent: None, on_lap=lambda: None):
    timings, tasks = Timings(dynamic_batching.ACTIVITIES, on_lap=on_lap), [0] * WORKERS
    return DynamicBatching(
        mailbox, policy, writer, refresh, UNROLL_LENGTH, tasks, seed=1, timings=timings, report=report, log_interval=0.2
    )


def _local_variables(policy):
    """What `LearnerEnd` makes its publisher with, and a list in which the publisher appears."""
    made = []

    def make(_address, variables):
        made.append(LocalVariables(variables, policy.trainable_variables))
        return made[0]

    return make, made


@contextlib.contextmanager
def _acting(env_id, core, report=lambda spent: None, queue_size=0):
    """Yields (learner's agent, learner's end, the inference, function that starts a worker)."""
    spec = environments.spec(env_id)
    learner, policy = (Agent(spec, torso="mlp", core=core, seed=seed) for seed in (1, 2))
    make_publisher, made = _local_variables(policy)
    unroll = unroll_signature(spec, learner.core_state_spec, UNROLL_LENGTH)
    data = DataConfig(batch_size=BATCH, queue_size=queue_size)
    with (
        LearnerEnd(data, unroll, learner.trainable_variables, make_publisher=make_publisher) as end,
        contextlib.closing(UnrollWriter(end.address, unroll)) as writer,
    ):
        mailbox = PolicyMailbox(spec, WORKERS, NUM_ENVS)
        inference = _inference(mailbox, policy, writer, made[0].refresh, report)
        workers = []

        def work(worker, seed, steps=10**9):
            environment = environments.make(env_id, NUM_ENVS, seed=seed)
            workers.append(_Worker(mailbox.worker(worker), environment, 0.002 * worker, steps))
            workers[-1].start()
            return workers[-1]

        try:
            yield learner, end, inference, work
        finally:
            inference.stop(timeout=5)
            for worker in workers:
                worker.stopped.set()
                worker.join(5)


def _unrolls(end, count):
    """[unroll, ...], numpy, in the order of arrival."""
    found = []
    while len(found) < count:
        batch = end.next_batch(timeout=20)
        assert batch is not None
        per_step = batch.unrolls._replace(core_state=(), task_id=())
        found += [tf.nest.map_structure(lambda x: x.numpy()[:, b], per_step) for b in range(BATCH)]  # noqa: B023
    return found


def test_every_unroll_is_whole_and_they_overlap():
    with _acting("counting", "none") as (_, end, inference, work):
        end.publish(7)
        inference.start()
        for worker in range(WORKERS):
            work(worker, seed=worker)
        unrolls = _unrolls(end, 60)
        inference.check()
    by_instance = {}
    for u in unrolls:
        check_unroll(u.observation, u.action, u.reward, u.terminated, u.truncated)
        assert (u.learner_step[1:] == 7).all()
        by_instance.setdefault(int(u.observation[0, 0]), []).append(u)
    assert len(by_instance) == WORKERS * NUM_ENVS
    for its in by_instance.values():
        for earlier, later in itertools.pairwise(its):
            for name in ("observation", "action", "reward", "behaviour_logits", "learner_step"):
                np.testing.assert_array_equal(getattr(earlier, name)[-1], getattr(later, name)[0], err_msg=name)


@pytest.mark.slow(5)
@pytest.mark.parametrize("core", ["none", "lstm"])
def test_logits_are_those_of_the_recorded_parameters_and_core_state(core):
    """Recomputed from the unroll alone, step by step, with the parameters that its learner step had."""
    with _acting("catch", core) as (learner, end, inference, work):
        initial = [10 * v.numpy() for v in learner.trainable_variables]

        def set_parameters(step):
            for variable, value in zip(learner.trainable_variables, initial):
                variable.assign((1 + step) * value)

        set_parameters(0)
        end.publish(0)
        inference.start()
        for worker in range(WORKERS):
            work(worker, seed=worker)
        changed = 0
        for step in range(1, 60):
            drawn = end.next_batch(timeout=20)
            assert drawn is not None
            batch = drawn.unrolls
            steps = batch.learner_step.numpy()
            expected = np.zeros_like(batch.behaviour_logits)
            start = tf.logical_or(batch.terminated, batch.truncated)
            state = batch.core_state
            for t in range(UNROLL_LENGTH):
                inputs = AgentInput(batch.observation[t], batch.reward[t], batch.action[t], start[t])
                before, state = state, tf.nest.map_structure(np.array, state)
                for acted in np.unique(steps[t + 1]):
                    set_parameters(acted)
                    output, after = learner.step(inputs, before)
                    its = steps[t + 1] == acted
                    expected[t + 1, its] = output.logits.numpy()[its]
                    for x, y in zip(tf.nest.flatten(state), tf.nest.flatten(after)):
                        x[its] = y.numpy()[its]
            np.testing.assert_allclose(batch.behaviour_logits[1:], expected[1:], rtol=1e-3, atol=1e-3)
            changed += int((np.diff(steps[1:], axis=0) > 0).any(axis=0).sum())
            set_parameters(step)
            end.publish(step)
            if changed >= 20:
                break
        assert changed >= 20  # Unrolls in which the parameters changed half-way.


def test_a_worker_that_dies_does_not_stop_the_others_and_is_replaced():
    with _acting("counting", "none") as (_, end, inference, work):
        end.publish(0)
        inference.start()
        first = work(0, seed=0, steps=13)  # Ends in the middle of an unroll.
        for worker in range(1, WORKERS):
            work(worker, seed=worker)
        first.join(20)
        assert not first.is_alive()
        before = {int(u.observation[0, 0]) for u in _unrolls(end, 30)}
        work(0, seed=99)
        unrolls = _unrolls(end, 90)
        inference.check()
    for u in unrolls:
        check_unroll(u.observation, u.action, u.reward, u.terminated, u.truncated)
    assert len({int(u.observation[0, 0]) for u in unrolls} - before) == NUM_ENVS


def test_a_policy_that_is_not_finite_is_told():
    with _acting("catch", "none") as (learner, end, inference, work):
        for variable in learner.trainable_variables:
            variable.assign(np.nan * variable)
        end.publish(0)
        inference.start()
        work(0, seed=0)
        deadline = time.monotonic() + 20
        with pytest.raises(UserError, match="training diverged"):
            while time.monotonic() < deadline:
                inference.check()
                time.sleep(0.05)


@pytest.mark.slow(5)
def test_the_time_is_reported_and_logged(caplog):
    """Also while the queue is full: nothing is sampled here."""
    spent, reported = [], threading.Event()

    def report(record):
        spent.append(record)
        if len(spent) == 20:
            reported.set()

    with caplog.at_level("INFO", "impala_tf"), _acting("catch", "none", report, BATCH + 1) as (_, end, inference, work):
        end.publish(0)
        inference.start()
        for worker in range(WORKERS):
            work(worker, seed=worker)
        assert reported.wait(20)
    assert set(spent[0].seconds) == {"environment", "variables", "inference", "writer", "queue"}
    assert 0 < sum(spent[0].seconds.values()) <= spent[0].elapsed
    assert any(" environments a batch: environment " in message for message in caplog.messages)


class _CountingWriter(UnrollWriter):
    written = 0

    def write(self, unroll):
        super().write(unroll)
        self.written += 1


def test_acting_stops_where_the_queue_is_full():
    """What may wait outside of it is one unroll of each environment, which is all policy lag."""
    spec, queue_size = environments.spec("counting"), 12
    agent = Agent(spec, torso="mlp", core="none", seed=1)
    variables = LocalVariables(agent.trainable_variables, agent.trainable_variables)
    variables.publish(0)
    config = server.load_config(DataConfig(batch_size=BATCH, queue_size=queue_size))
    unroll = unroll_signature(spec, agent.core_state_spec, UNROLL_LENGTH)
    with server.Server(config, unroll, agent.trainable_variables, port=0) as running:
        mailbox, writer = PolicyMailbox(spec, WORKERS, NUM_ENVS), _CountingWriter(running.address, unroll)
        laps: list[None] = []
        inference = _inference(mailbox, agent, writer, variables.refresh, on_lap=lambda: laps.append(None))
        made = [environments.make("counting", NUM_ENVS, seed=i) for i in range(WORKERS)]
        workers = [_Worker(mailbox.worker(i), environment, 0.0) for i, environment in enumerate(made)]
        inference.start()
        for worker in workers:
            worker.start()
        before, deadline = -1, time.monotonic() + 60
        while writer.written > before or writer.written < queue_size:
            assert time.monotonic() < deadline
            before = writer.written
            time.sleep(1.0)
        so_far, deadline = len(laps), time.monotonic() + 10
        while len(laps) == so_far:  # Waiting is no hanging.
            assert time.monotonic() < deadline
            time.sleep(0.01)
        inference.check()
        inference.stop(timeout=5)
        for worker in workers:
            worker.stopped.set()
            worker.join(5)
        writer.close()
    # In the policy step that found the queue full, each worker may have finished another unroll per environment.
    assert queue_size + WORKERS * NUM_ENVS < writer.written <= queue_size + 2 * WORKERS * NUM_ENVS

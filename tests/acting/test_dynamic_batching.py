"""Central inference with real environments and a real Reverb server; the workers are threads."""

import contextlib
import itertools
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import environments
from impala_tf.acting.dynamic_batching import DynamicBatching, LocalVariables
from impala_tf.environments.remote.mailbox import PolicyMailbox
from impala_tf.environments.counting import check_unroll
from impala_tf.errors import UserError
from impala_tf.networks.agent import Agent
from impala_tf.structures import AgentInput
from impala_tf.transport import TRAJECTORIES, server
from impala_tf.transport.dataset import BatchQueue, make_dataset
from impala_tf.transport.signatures import trajectory_signature
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


@contextlib.contextmanager
def _acting(env_id, core):
    """(learner's agent, its parameters' way to the policy, the inference, batches, function that starts a worker)."""
    spec = environments.spec(env_id)
    learner, policy = (Agent(spec, torso="mlp", core=core, seed=seed) for seed in (1, 2))
    variables = LocalVariables(learner.trainable_variables, policy.trainable_variables)
    signature = trajectory_signature(spec, learner.core_state_spec, UNROLL_LENGTH)
    with server.Server(server.load_config("on_policy"), {TRAJECTORIES: signature}, port=0) as running:
        mailbox = PolicyMailbox(spec, WORKERS, NUM_ENVS)
        writer = UnrollWriter(running.address)
        inference = DynamicBatching(
            mailbox,
            policy,
            writer,
            variables.refresh,
            UNROLL_LENGTH,
            [0] * WORKERS,
            seed=1,
            say=lambda _: None,
            log_interval=1.0,
        )
        batches = BatchQueue(make_dataset(running.address, signature, BATCH), prefetch=1)
        workers = []

        def work(worker, seed, steps=10**9):
            environment = environments.make(env_id, NUM_ENVS, seed=seed)
            workers.append(_Worker(mailbox.worker(worker), environment, 0.002 * worker, steps))
            workers[-1].start()
            return workers[-1]

        try:
            yield learner, variables, inference, batches, work
        finally:
            inference.stop(timeout=5)
            for worker in workers:
                worker.stopped.set()
                worker.join(5)
            batches.stop()


def _unrolls(batches, count):
    """[unroll, ...], numpy, in the order of arrival."""
    found = []
    while len(found) < count:
        batch = batches.get(timeout=20)
        assert batch is not None
        per_step = batch._replace(core_state=(), task_id=())
        found += [tf.nest.map_structure(lambda x: x.numpy()[:, b], per_step) for b in range(BATCH)]  # noqa: B023
    return found


def test_every_unroll_is_whole_and_they_overlap():
    with _acting("counting", "none") as (_, variables, inference, batches, work):
        variables.publish(7)
        inference.start()
        for worker in range(WORKERS):
            work(worker, seed=worker)
        unrolls = _unrolls(batches, 60)
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


@pytest.mark.parametrize("core", ["none", "lstm"])
def test_logits_are_those_of_the_recorded_parameters_and_core_state(core):
    """Recomputed from the unroll alone, step by step, with the parameters that its learner step had."""
    with _acting("catch", core) as (learner, variables, inference, batches, work):
        initial = [10 * v.numpy() for v in learner.trainable_variables]

        def set_parameters(step):
            for variable, value in zip(learner.trainable_variables, initial):
                variable.assign((1 + step) * value)

        set_parameters(0)
        variables.publish(0)
        inference.start()
        for worker in range(WORKERS):
            work(worker, seed=worker)
        changed = 0
        for step in range(1, 60):
            batch = batches.get(timeout=20)
            assert batch is not None
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
            variables.publish(step)
            if changed >= 20:
                break
        assert changed >= 20  # Unrolls in which the parameters changed half-way.


def test_a_worker_that_dies_does_not_stop_the_others_and_is_replaced():
    with _acting("counting", "none") as (_, variables, inference, batches, work):
        variables.publish(0)
        inference.start()
        first = work(0, seed=0, steps=13)  # Ends in the middle of an unroll.
        for worker in range(1, WORKERS):
            work(worker, seed=worker)
        first.join(20)
        assert not first.is_alive()
        before = {int(u.observation[0, 0]) for u in _unrolls(batches, 30)}
        work(0, seed=99)
        unrolls = _unrolls(batches, 90)
        inference.check()
    for u in unrolls:
        check_unroll(u.observation, u.action, u.reward, u.terminated, u.truncated)
    assert len({int(u.observation[0, 0]) for u in unrolls} - before) == NUM_ENVS


def test_a_policy_that_is_not_finite_is_told():
    with _acting("catch", "none") as (learner, variables, inference, _, work):
        for variable in learner.trainable_variables:
            variable.assign(np.nan * variable)
        variables.publish(0)
        inference.start()
        work(0, seed=0)
        deadline = time.monotonic() + 20
        with pytest.raises(UserError, match="training diverged"):
            while time.monotonic() < deadline:
                inference.check()
                time.sleep(0.05)


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
    config = server.load_config("on_policy")
    server.set_queue_size(config, queue_size, BATCH)
    signature = trajectory_signature(spec, agent.core_state_spec, UNROLL_LENGTH)
    with server.Server(config, {TRAJECTORIES: signature}, port=0) as running:
        mailbox, writer = PolicyMailbox(spec, WORKERS, NUM_ENVS), _CountingWriter(running.address)
        arguments = (mailbox, agent, writer, variables.refresh, UNROLL_LENGTH, [0] * WORKERS)
        inference = DynamicBatching(*arguments, seed=1, say=lambda _: None, log_interval=1.0)
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
        inference.check()
        inference.stop(timeout=5)
        for worker in workers:
            worker.stopped.set()
            worker.join(5)
    # In the policy step that found the queue full, each worker may have finished another unroll per environment.
    assert queue_size + WORKERS * NUM_ENVS < writer.written <= queue_size + 2 * WORKERS * NUM_ENVS

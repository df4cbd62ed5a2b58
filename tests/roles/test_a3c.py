"""A3C's workers and its learner in one process, through a real Reverb server."""

from __future__ import annotations

import contextlib
import threading

import numpy as np
import pytest
import tensorflow as tf
import tree

from impala_tf import config as config_lib
from impala_tf import topology
from impala_tf.environments import task_set
from impala_tf.errors import UserError
from impala_tf.learning.learner import Learner
from impala_tf.networks.agent import make_agent
from impala_tf.records.logdir import LogDir
from impala_tf.records.progress import Progress
from impala_tf.roles import a3c_worker
from impala_tf.roles.a3c_learner import GradientIntake
from impala_tf.structures import Batch
from impala_tf.transport import connection
from impala_tf.transport.variables import VariablePublisher

UNROLL_LENGTH, ENVS = 5, 2


class Run:
    """A run of A3C of which the test is the launcher and the learner's loop."""

    def __init__(self, **values):
        settings = {"env": "catch", "unroll_length": UNROLL_LENGTH, "num_actors": 3, "envs_per_actor": ENVS, **values}
        self.config = config_lib.from_values({"architecture": "a3c", "learning_rate": 0.01, **settings})
        self.tasks = task_set.resolve(self.config.environment)
        self.topology = topology.resolve(self.config, len(self.tasks.names), topology.alone("localhost:0"))
        self.learner = self.new_learner()
        parts = (self.config, self.tasks, self.topology, self.learner)
        self.intake = GradientIntake(*parts, make_publisher=VariablePublisher)
        self.intake.trace()
        self._open = contextlib.ExitStack()
        self._open.callback(self.intake.end.stop)
        self.publish()

    def new_learner(self) -> Learner:
        return Learner(make_agent(self.tasks.spec, self.config), self.config, self.tasks.spec.frames_per_step)

    def worker(self, number) -> a3c_worker.Worker:
        address = self.intake.end.address
        connected = a3c_worker.connect(self.config, self.tasks, self.topology, number, address)
        self._open.callback(connected.end.stop)
        worker = a3c_worker.Worker(self.config, self.tasks, number, connected)
        self._open.callback(worker.close)
        return worker

    def publish(self):
        self.intake.end.publish(int(self.learner.step_count))
        assert self.intake.end.wait_until_published(10)

    def learn(self) -> tuple[Batch, np.ndarray]:
        """One update; returns what it counts, and the policy lags of its transitions."""
        before = int(self.learner.step_count)
        counted, _ = self.intake.learn(self.intake.next(10))
        self.publish()
        return counted, before - counted.unrolls.learner_step.numpy()[1:, counted.fresh.numpy()]

    def close(self):
        self._open.close()


@pytest.fixture
def start():
    with contextlib.ExitStack() as stack:

        def start(**values):
            run = Run(**values)
            stack.callback(run.close)
            return run

        yield start


def state(learner):
    """Parameters, RMSProp's statistics and counts."""
    return [variable.numpy() for variable in learner.variables]


@pytest.mark.slow(12)
@pytest.mark.parametrize("core", ["none", "lstm"])
def test_one_worker_computes_what_the_learner_would(start, monkeypatch, core):
    """Its gradients are those of the learner on the same unrolls, and so are the parameters after several."""
    run = start(core=core, num_actors=1)
    worker, reference = run.worker(0), run.new_learner()
    sent, contribute = [], a3c_worker.GradientWorkerEnd.contribute

    def noted(self, gradients, unrolls):
        sent.append((gradients, unrolls))
        contribute(self, gradients, unrolls)

    monkeypatch.setattr(a3c_worker.GradientWorkerEnd, "contribute", noted)
    for count in range(1, 5):
        assert worker.contribute() == ENVS
        counted, lags = run.learn()
        assert not lags.any()  # Alone, it is on-policy.
        worker.wait()
        gradients, unrolls = sent[-1]
        unrolls = tree.map_structure(tf.convert_to_tensor, unrolls)
        tree.map_structure(
            lambda theirs, ours: np.testing.assert_allclose(theirs, ours, rtol=1e-6, atol=1e-7),
            reference.gradients(unrolls),
            gradients,
        )
        reference.step(Batch(unrolls, fresh=tf.ones([ENVS], tf.bool)))
        for theirs, ours in zip(state(reference), state(run.learner)):
            np.testing.assert_allclose(theirs, ours, rtol=1e-6, atol=1e-7)
        assert int(run.learner.frames) == count * UNROLL_LENGTH * ENVS
        for name in ("episode_return", "episode_length", "learner_step", "task_id"):
            np.testing.assert_array_equal(getattr(counted.unrolls, name), getattr(unrolls, name))
    # Nothing was traced again after the start.
    for traced in (worker._loss_gradients._compiled, run.learner._compiled_apply):
        assert traced.experimental_get_tracing_count() == 1
    starts = run.new_learner().agent.trainable_variables
    assert any(np.any(a != b) for a, b in zip(starts, run.learner.agent.trainable_variables))


def test_a_gradient_waits_for_at_most_one_of_each_other_worker(start):
    """So the lag of workers that keep pace is at most their number less one; of a slow one, it is what others do."""
    run = start()
    workers = [run.worker(number) for number in range(3)]
    for _ in range(3):
        for worker in workers:
            worker.contribute()
        assert [np.unique(run.learn()[1]).tolist() for _ in workers] == [[0], [1], [2]]
        for worker in workers:
            worker.wait()
    slow, *fast = workers
    for _ in range(4):
        for worker in fast:
            worker.contribute()
            run.learn()
            worker.wait()
    slow.contribute()
    assert np.unique(run.learn()[1]).tolist() == [8]
    slow.wait()


def test_the_first_gradient_is_not_as_old_as_the_workers_start(start):
    run = start(num_actors=2)
    connected = a3c_worker.connect(run.config, run.tasks, run.topology, 1, run.intake.end.address)
    other = run.worker(0)
    other.contribute()
    run.learn()
    with connected.end, contextlib.closing(a3c_worker.Worker(run.config, run.tasks, 1, connected)) as worker:
        worker.contribute()
        assert np.unique(run.learn()[1]).tolist() == [0]


def test_a_worker_waits_for_a_learner_that_is_busy(start, monkeypatch):
    """As with a last evaluation, which may take longer than --stall_timeout: nothing is published."""
    monkeypatch.setattr(a3c_worker, "_LOOK_SECONDS", 0.02)
    run = start(num_actors=2)
    worker = run.worker(0)
    worker._stall_timeout = 0.1
    worker.contribute()
    waiting = threading.Thread(target=worker.wait)
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive()
    run.learn()
    waiting.join(60)
    assert not waiting.is_alive()


def test_two_workers_of_one_number_are_told(start):
    """What was applied of the one is overwritten by the other's before it is seen."""
    run = start(num_actors=2)
    worker, other = run.worker(0), run.worker(0)
    worker._stall_timeout = 0.3
    wait_for_publication = worker._end.wait_for_publication

    def the_other_goes_on(timeout):
        other.contribute()
        run.learn()
        other.wait()
        return wait_for_publication(timeout)

    worker._end.wait_for_publication = the_other_goes_on
    worker.contribute()
    run.learn()
    with pytest.raises(UserError, match=r"of others, .* that of worker 0 in 0.3 s .* another worker have --actor_id=0"):
        worker.wait()


def test_a_gradient_that_is_not_finite_is_refused_and_its_worker_goes_on(start):
    run = start(num_actors=1)
    worker = run.worker(0)
    with monkeypatched_gradients(worker):
        worker.contribute()
    before = [variable.numpy() for variable in run.learner.agent.trainable_variables]
    run.learn()
    worker.wait()
    assert int(run.learner.refused) == 1 and int(run.learner.step_count) == 1
    for old, new in zip(before, run.learner.agent.trainable_variables):
        np.testing.assert_array_equal(old, new)
    worker.contribute()
    run.learn()
    worker.wait()
    assert int(run.learner.refused_in_a_row) == 0


@contextlib.contextmanager
def monkeypatched_gradients(worker):
    compute = worker._loss_gradients
    worker._loss_gradients = lambda unrolls: tree.map_structure(lambda x: x * np.nan, compute(unrolls))
    yield
    worker._loss_gradients = compute


def test_unrolls_in_which_an_environment_failed_are_left_out(start, tmp_path):
    run = start(num_actors=1)
    worker = run.worker(0)
    step = worker._actor.environment.step

    def fail(which):
        def failing(action):
            output = step(action)
            output.episode_length[which] = -1
            return output

        return failing

    worker._actor.environment.step = fail([0])
    assert worker.contribute() == ENVS - 1
    counted, _ = run.learn()
    assert counted.fresh.numpy().tolist() == [True]
    assert {x.shape[-1] for x in tree.flatten(counted.unrolls)} == {1}
    with contextlib.closing(Progress(LogDir(str(tmp_path)), run.tasks.names, 1, 100, None)) as progress:
        progress.add(counted, 0, UNROLL_LENGTH, {}, waited=0.0)
        progress.report(refused=0)
    header, _ = (tmp_path / "progress.csv").read_text().splitlines()
    assert "policy_lag_mean" in header and "replay" not in header
    assert int(run.learner.frames) == UNROLL_LENGTH
    worker.wait()
    worker._actor.environment.step = fail([0, 1])
    assert worker.contribute() == 0
    worker.wait()  # For nothing.
    assert run.intake.next(0.1) is None


def test_a_gradient_that_comes_twice_is_applied_once(start, monkeypatch):
    """Reverb's writer sends an item again if the connection broke before it was confirmed."""
    run = start(num_actors=2)
    first, second = run.worker(0), run.worker(1)
    sent, contribute = [], a3c_worker.GradientWorkerEnd.contribute
    monkeypatch.setattr(
        a3c_worker.GradientWorkerEnd, "contribute", lambda end, *what: (sent.append(what), contribute(end, *what))
    )
    for _ in range(2):
        first.contribute()
        run.learn()
        before = state(run.learner)
        first._end._next_ticket -= 1  # The same item again.
        contribute(first._end, *sent[-1])
        assert first._end.flush(10)
        second.contribute()
        assert run.intake.next(10) is None
        for old, new in zip(before, state(run.learner)):
            np.testing.assert_array_equal(old, new)
        assert int(run.intake.next(10).worker) == 1
        first.wait()
    assert int(run.learner.step_count) == 2


def test_a_gradient_of_parameters_that_are_lost_is_skipped(start):
    """It was computed with those of a learner that has been killed and restarted at an older checkpoint."""
    run = start(num_actors=1)
    worker = run.worker(0)
    worker._end.learner_step = 3
    worker.contribute()
    assert worker._end.flush(10)
    assert run.intake.next(10) is None
    worker._end.learner_step = 0
    for _ in range(2):
        worker.contribute()  # Begins where the lost unroll has ended.
        _, lags = run.learn()
        assert lags.size and not lags.any()
        worker.wait()


def test_a_worker_that_the_learner_does_not_have_is_refused(start):
    run = start(num_actors=1)
    advice = r"Start it with --num_actors=2 or more, or give a smaller --actor_id"
    with pytest.raises(UserError, match=rf"--actor_id=1: the learner at .* has 1 workers, numbered from 0. {advice}"):
        run.worker(1)


def test_a_worker_asks_the_learner_for_nothing_before_it_watches_it(start, monkeypatch):
    """It would wait forever for a learner that is gone."""
    run, watched, read_told = start(num_actors=1), [], connection.read_told

    def look():
        watched.append("server-watch" in {thread.name for thread in threading.enumerate()})

    monkeypatch.setattr(connection, "read_told", lambda *given: (look(), read_told(*given))[1])
    topology = lambda told: (look(), run.topology)[1]  # noqa: E731
    connected = a3c_worker.connect(run.config, run.tasks, topology, 0, run.intake.end.address, on_end=print)
    connected.end.stop()
    assert len(watched) > 1 and all(watched)

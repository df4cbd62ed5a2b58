"""A3C's way there and back through a real Reverb server: every contribution once, and what has been applied."""

from __future__ import annotations

import collections
import threading
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import environments
from impala_tf.config import DataConfig
from impala_tf.errors import UserError
from impala_tf.structures import Trajectory
from impala_tf.transport import connection
from impala_tf.transport.gradient_ends import Applied, GradientLearnerEnd, GradientWorkerEnd, contribution_signature
from impala_tf.transport.signatures import trajectory_signature

WORKERS, UNROLL_LENGTH = 4, 3
UNROLL = trajectory_signature(environments.spec("catch"), (), UNROLL_LENGTH)


class Gradients(NamedTuple):
    loss: Any
    gradients: Any
    metrics: dict


SHAPES = ((2, 3), (4,))
SIGNATURE = contribution_signature(
    Gradients(
        tf.TensorSpec((), tf.float32),
        tuple(tf.TensorSpec(shape, tf.float32) for shape in SHAPES),
        {"entropy": tf.TensorSpec((), tf.float32)},
    ),
    UNROLL,
    num_envs=3,
)


def gradients(number) -> Gradients:
    """Gradients that say who has sent them, in every element."""
    number = np.float32(number)
    return Gradients(number, tuple(np.full(shape, number, np.float32) for shape in SHAPES), {"entropy": number})


def unrolls(number, count=2) -> Trajectory:
    """Time-major unrolls whose learner steps are `number`."""
    arrays = tf.nest.map_structure(
        lambda spec: np.full([spec.shape[0], count, *spec.shape[1:]], 0, spec.dtype.as_numpy_dtype),
        UNROLL._replace(task_id=()),
    )
    steps = np.full([UNROLL_LENGTH + 1, count], number, np.int64)
    return arrays._replace(learner_step=steps, task_id=np.zeros(count, np.int32))


class Learner:
    """The learner's end, and what it publishes: one parameter, the number of applied contributions."""

    def __init__(self):
        self.parameter, self.applied = tf.Variable(0.0), Applied(WORKERS)
        variables = [self.parameter, self.applied.variable]
        self.end = GradientLearnerEnd(DataConfig(), SIGNATURE, variables, told={})
        self.steps = 0
        self.publish()

    def publish(self):
        self.end.publish(self.steps)
        assert self.end.wait_until_published(10)

    def apply(self):
        contribution = self.end.next_contribution(10)
        self.steps += 1
        self.parameter.assign_add(1.0)
        self.applied.add(int(contribution.worker), int(contribution.ticket))
        self.publish()
        return contribution

    def worker(self, number):
        own = tf.Variable(0.0)
        return own, GradientWorkerEnd(self.end.address, number, lambda told: (SIGNATURE, WORKERS), [own], timeout=10)


@pytest.fixture
def learner():
    made = Learner()
    with made.end:
        yield made


def test_each_of_2000_contributions_is_applied_once_and_in_order(learner):
    each = 500

    def contribute(number):
        with learner.worker(number)[1] as end:
            for i in range(each):
                end.contribute(gradients(number * each + i), unrolls(i, count=1 + i % 3))
                if i % 8 == 7:
                    while not end.flush(1.0):
                        pass
            assert end.flush(60)

    threads = [threading.Thread(target=contribute, args=(number,)) for number in range(WORKERS)]
    for thread in threads:
        thread.start()
    found, tickets = collections.defaultdict(list), collections.defaultdict(list)
    for _ in range(WORKERS * each):
        one = learner.end.next_contribution(30)
        assert one, connection.ask(learner.end.address)
        values = [np.ravel(x) for x in (one.gradients.loss, *one.gradients.gradients, one.gradients.metrics["entropy"])]
        (value,) = set(np.concatenate(values).tolist())  # Nothing of one is in another.
        worker, i = divmod(int(value), each)
        assert int(one.worker) == worker
        assert one.played.numpy().tolist() == [unroll <= i % 3 for unroll in range(3)]
        np.testing.assert_array_equal(one.unrolls.learner_step, i * np.tile(one.played, [UNROLL_LENGTH + 1, 1]))
        found[worker].append(i)
        tickets[worker].append(int(one.ticket))
    assert learner.end.next_contribution(0.2) is None
    for thread in threads:
        thread.join(30)
    assert found == {worker: list(range(each)) for worker in range(WORKERS)}
    for worker in tickets.values():
        assert np.array_equal(np.diff(worker), np.ones(each - 1)) and worker[0] > 0


def test_a_worker_knows_when_its_contribution_has_changed_its_parameters(learner):
    own, end = learner.worker(2)
    with end:
        assert end.applied  # It has sent nothing.
        for count in (1, 2, 3):
            end.contribute(gradients(1), unrolls(0))
            assert end.flush(10)
            end.refresh()
            assert not end.applied
            learner.apply()
            assert end.wait_for_publication(10)
            assert end.refresh() == count == end.learner_step == float(own)
            assert end.applied


def test_nothing_new_is_not_waited_for_longer_than_asked(learner):
    _, end = learner.worker(0)
    with end:
        assert end.wait_for_publication(0.0)  # The first.
        assert not end.wait_for_publication(0.05)


def test_what_was_published_before_a_contribution_is_not_waited_for(learner):
    _, end = learner.worker(0)
    with end:
        assert end.wait_for_publication(0.0)
        learner.publish()  # While the unroll is played.
        end.contribute(gradients(1), unrolls(0))
        assert end.flush(10)
        assert not end.wait_for_publication(0.05)
        learner.apply()
        assert end.wait_for_publication(10)


def test_those_of_others_do_not_count(learner):
    (_, first), (_, second) = learner.worker(0), learner.worker(1)
    with first, second:
        first.contribute(gradients(1), unrolls(0))
        assert first.flush(10)
        second.contribute(gradients(2), unrolls(0))
        assert second.flush(10)
        for expected in ((True, False), (True, True)):
            learner.apply()
            first.refresh(), second.refresh()
            assert (first.applied, second.applied) == expected


def test_a_worker_that_replaces_another_waits_for_its_own(learner):
    _, dead = learner.worker(1)
    dead.contribute(gradients(1), unrolls(0))
    assert dead.flush(10)
    dead.stop()
    _, end = learner.worker(1)
    with end:
        assert end.applied
        end.contribute(gradients(2), unrolls(0))
        assert end.flush(10)
        assert float(learner.apply().gradients.loss) == 1
        end.refresh()
        assert not end.applied
        assert float(learner.apply().gradients.loss) == 2
        end.refresh()
        assert end.applied


@pytest.mark.parametrize("applied_before", [0, 1])
def test_a_learner_that_is_started_again_is_not_waited_for(learner, applied_before):
    """It does not know what has been sent to the one before. Here, only what it publishes is new."""
    _, end = learner.worker(3)
    with end:
        for _ in range(applied_before):
            end.contribute(gradients(1), unrolls(0))
            learner.apply()
        end.refresh()
        end.contribute(gradients(2), unrolls(0))
        end.refresh()
        assert not end.applied
        learner.applied.variable.assign(Applied(WORKERS).variable)
        learner.publish()
        end.refresh()
        assert end.applied
        end.contribute(gradients(3), unrolls(0))
        assert not end.applied


def test_a_worker_with_other_gradients_is_refused(learner):
    other = SIGNATURE._replace(gradients=SIGNATURE.gradients._replace(metrics={}))
    with pytest.raises(UserError, match=r"gradients do not match .*entropy: float32"):
        GradientWorkerEnd(learner.end.address, 0, lambda told: (other, WORKERS), [tf.Variable(0.0)], timeout=10)


def test_tables_without_a_queue_of_gradients_are_refused(tmp_path):
    path = tmp_path / "mine.textproto"
    path.write_text('tables { table_name: "variables" }')
    with pytest.raises(UserError, match="has no table 'gradients'"):
        GradientLearnerEnd(DataConfig(reverb_config=str(path)), SIGNATURE, [], told={})

"""Both sides of a mailbox, in one process and in two."""

import itertools

import numpy as np
import tree

from impala_tf import environments
from impala_tf.environments.remote.mailbox import PolicyMailbox
from impala_tf.processes.child import FORK_SERVER, Child, end_all


def _outputs(num_envs, steps):
    environment = environments.make("catch", num_envs, seed=3)
    outputs = [environment.reset()]
    outputs += [environment.step(np.full(num_envs, step % 3, np.int32)) for step in range(steps)]
    return environment.spec, outputs


def test_outputs_and_actions_arrive_as_they_were_given():
    spec, outputs = _outputs(4, steps=12)
    learner = PolicyMailbox(spec, num_workers=2, num_envs=4)
    workers = [learner.worker(i) for i in range(2)]
    learner.open()
    for worker in workers:
        worker.open()
    assert learner.take(0.01) == []
    assert workers[0].actions(0.01) is None
    for first, second in itertools.pairwise(outputs):
        workers[1].put(first)
        workers[0].put(second)
        taken = learner.take(1.0)
        assert [(worker, start) for worker, start, _ in taken] == [(1, 1), (0, 1)]
        tree.map_structure(np.testing.assert_array_equal, taken[0][2], first)
        tree.map_structure(np.testing.assert_array_equal, taken[1][2], second)
        learner.answer(1, 1, np.arange(4))
        np.testing.assert_array_equal(workers[1].actions(1.0), np.arange(4))
        assert workers[0].actions(0.01) is None


def test_nothing_from_before_a_restart_is_taken_for_something_after_it():
    spec, outputs = _outputs(2, steps=1)
    learner = PolicyMailbox(spec, num_workers=1, num_envs=2)
    died, alive = learner.worker(0), learner.worker(0)
    learner.open()
    died.open()
    died.put(outputs[0])
    learner.answer(0, 1, np.array([1, 2]))  # Never read: it died before.
    died.put(outputs[0])
    alive.open()
    assert learner.take(0.1) == []
    assert alive.actions(0.05) is None
    alive.put(outputs[1])
    ((worker, start, output),) = learner.take(1.0)
    assert (worker, start) == (0, 2)
    tree.map_structure(np.testing.assert_array_equal, output, outputs[1])
    learner.answer(0, 2, np.array([0, 1]))
    np.testing.assert_array_equal(alive.actions(1.0), [0, 1])


def _echo(mailbox, outputs):
    mailbox.open()
    for output in outputs:
        mailbox.put(output)
        while mailbox.actions(1.0) is None:
            pass


def _take_all(mailbox, expected):
    mailbox.open()
    same = 0
    for output in expected:
        taken = []
        while not taken:
            taken = mailbox.take(1.0)
        ((worker, start, found),) = taken
        same += all(np.array_equal(a, b) for a, b in zip(tree.flatten(found), tree.flatten(output)))
        mailbox.answer(worker, start, np.zeros(3, np.int32))
    return same


def test_between_processes():
    spec, outputs = _outputs(3, steps=30)
    mailbox = PolicyMailbox(spec, num_workers=1, num_envs=3)
    worker = Child("worker", _echo, mailbox.worker(0), outputs, context=FORK_SERVER)
    policy = Child("policy", _take_all, mailbox, outputs, context=FORK_SERVER)
    try:
        assert policy.answer(60) == len(outputs)
    finally:
        end_all([worker, policy])

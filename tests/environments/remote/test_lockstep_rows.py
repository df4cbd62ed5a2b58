"""The rows of a batch, in whichever order the workers answer; `test_lockstep` has processes."""

from __future__ import annotations

import numpy as np
import pytest

from impala_tf.environments.base import EnvironmentFailed, empty_output
from impala_tf.environments.remote.lockstep import Lockstep
from impala_tf.environments.remote.mailbox import PolicyMailbox
from impala_tf.structures import ArraySpec, EnvironmentSpec

SPEC = EnvironmentSpec(ArraySpec((2,), np.dtype(np.float32)), num_actions=2, frames_per_step=1)


class Recorded:
    """A mailbox with three workers of two environments each, whose outputs arrive in a given order."""

    environment, num_workers, num_envs, watched, down = SPEC, 3, 2, False, frozenset()

    def __init__(self, arrivals: list):
        self.arrivals, self.sent = arrivals, []

    def open(self):
        pass

    def take(self, timeout):
        taken = []
        for worker, start in self.arrivals.pop(0):
            output = empty_output(SPEC, 2)
            output.observation[:] = [[worker, 0], [worker, 1]]
            taken.append((worker, start, output))
        return taken

    def answer(self, worker, start, action):
        self.sent.append((worker, start, action.tolist()))


def test_rows_are_in_the_order_of_the_workers():
    mailbox = Recorded([[(2, 1)], [], [(0, 1), (1, 1)], [(1, 1)], [(0, 2), (2, 1)]])
    environment = Lockstep(mailbox, 60.0)
    rows = [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1]]
    assert environment.num_envs == 6
    assert environment.reset().observation.tolist() == rows
    output = environment.step(np.array([0, 1, 1, 1, 0, 0]))
    assert output.observation.tolist() == rows and output.episode_length.tolist() == [-1, -1, 0, 0, 0, 0]
    assert mailbox.sent == [(0, 1, [0, 1]), (1, 1, [1, 1]), (2, 1, [0, 0])]
    with pytest.raises(ValueError, match="shape"):
        environment.send(np.zeros(3))
    with pytest.raises(RuntimeError, match="only once"):
        environment.reset()


def test_a_worker_that_restarts_twice_in_a_step_or_after_it_has_answered_counts_with_its_last_start():
    start = [[(0, 1), (1, 1), (2, 1)]]
    mailbox = Recorded([*start, [(0, 1)], [(0, 2)], [(1, 2)], [(1, 3)], [(2, 1)], *start])
    environment = Lockstep(mailbox, 60.0)
    environment.reset()
    assert environment.step(np.zeros(6)).episode_length.tolist() == [-1, -1, -1, -1, 0, 0]
    environment.send(np.zeros(6))
    assert [start for _, start, _ in mailbox.sent[3:]] == [2, 3, 1]


def test_a_mailbox_without_workers_is_not_waited_for_forever():
    with pytest.raises(EnvironmentFailed, match=r"^environment worker 0 did not answer within 0\.1 s$"):
        Lockstep(PolicyMailbox(SPEC, 2, 1), 0.1).reset()

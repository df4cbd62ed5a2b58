"""Rounds of one unroll of each environment, in dynamic batches; the workers are threads."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import tree

from impala_tf import environments
from impala_tf.acting.actor import ACTIVITIES
from impala_tf.acting.trajectory_rounds import TrajectoryRounds
from impala_tf.environments.base import EnvironmentFailed
from impala_tf.environments.counting import check_unroll
from impala_tf.environments.remote.mailbox import PolicyMailbox
from impala_tf.networks.agent import Agent
from impala_tf.processes.timings import Timings

WORKERS, NUM_ENVS, UNROLL_LENGTH = 3, 2, 5


class _Worker(threading.Thread):
    """Steps environments as an environment process does, and dies after `steps` of them."""

    def __init__(self, mailbox, seed, steps=10**9):
        super().__init__(daemon=True)
        self._mailbox, self._left = mailbox, steps
        self._environment = environments.make("counting", NUM_ENVS, seed=seed)
        self.stopped = False
        self.start()

    def run(self):
        self._mailbox.open()
        self._mailbox.put(self._environment.reset())
        while self._left and not self.stopped:
            if (action := self._mailbox.actions(0.02)) is not None:
                self._mailbox.put(self._environment.step(action))
                self._left -= 1


class _Rounds:
    """Plays rounds; the learner step is the number of the round."""

    def __init__(self, deadline=30.0):
        spec = environments.spec("counting")
        self.mailbox, self.written, self.number = PolicyMailbox(spec, WORKERS, NUM_ENVS), [], 0
        agent, timings = Agent(spec, torso="mlp", core="lstm", seed=1), Timings(ACTIVITIES)
        tasks = [np.full(NUM_ENVS, i, np.int32) for i in range(WORKERS)]
        write = lambda u: self.written.append(tree.map_structure(np.copy, u))  # noqa: E731
        self._play = TrajectoryRounds(
            self.mailbox, deadline, agent, write, lambda: self.number, UNROLL_LENGTH, 1, tasks, timings
        )

    def play(self, **options):
        """Returns the unrolls of a round by worker, all of which must be whole and of this round's parameters."""
        self.written, self.number = [], self.number + 1
        assert self._play.run_unroll(**options) == len(self.written)
        found = {i: [] for i in range(WORKERS)}
        for u in self.written:
            check_unroll(u.observation, u.action, u.reward, u.terminated, u.truncated)
            assert (u.learner_step[1:] == self.number).all()
            found[int(u.task_id)].append(u)
        return found


@pytest.fixture
def workers():
    started = []
    yield started
    for worker in started:
        worker.stopped = True
        worker.join(5)


def test_each_round_has_one_unroll_of_each_environment_and_they_overlap(workers):
    rounds = _Rounds()
    workers += [_Worker(rounds.mailbox.worker(i), seed=i) for i in range(WORKERS)]
    before = rounds.play()
    for _ in range(4):
        now = rounds.play()
        for number in range(WORKERS):
            assert len(now[number]) == NUM_ENVS
            for earlier, later in zip(before[number], now[number]):
                for name in ("observation", "action", "reward", "behaviour_logits", "learner_step"):
                    np.testing.assert_array_equal(getattr(earlier, name)[-1], getattr(later, name)[0], err_msg=name)
        before = now
    assert len(rounds.play(at_most=4)[0]) <= NUM_ENVS and len(rounds.written) == 4


@pytest.mark.parametrize("steps", [UNROLL_LENGTH + 2, UNROLL_LENGTH])
def test_a_worker_that_is_restarted_plays_its_unroll_from_the_start(workers, steps):
    """It dies in the second round, or before that, while it waits for it."""
    rounds = _Rounds()
    workers += [_Worker(rounds.mailbox.worker(i), i, steps if i == 1 else 10**9) for i in range(WORKERS)]
    assert all(len(its) == NUM_ENVS for its in rounds.play().values())

    def restart():
        workers[1].join(30)
        time.sleep(0.1)
        workers.append(_Worker(rounds.mailbox.worker(1), seed=9))

    again = threading.Thread(target=restart)
    again.start()
    for _ in range(3):
        found = rounds.play()
        assert all(len(its) == NUM_ENVS for its in found.values())
    again.join()


def test_one_that_does_not_answer_is_told(workers):
    rounds = _Rounds(deadline=0.5)
    workers += [_Worker(rounds.mailbox.worker(i), seed=i) for i in (0, 2)]
    with pytest.raises(EnvironmentFailed, match=r"worker 1 did not answer within 0\.5 s"):
        rounds.play()

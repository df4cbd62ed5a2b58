"""Dynamic batching in rounds of one unroll: batched A2C with dynamic batching (Table 1, Figure 2)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tree

from impala_tf.acting.policy import Policy
from impala_tf.acting.unrolls import Unrolls
from impala_tf.acting.worker_unrolls import PendingAction, WorkerUnrolls, concatenate, last_actions
from impala_tf.environments.base import EnvironmentFailed
from impala_tf.environments.remote.mailbox import Mailbox
from impala_tf.networks.agent import Agent
from impala_tf.processes.timings import Timings
from impala_tf.structures import EnvironmentOutput, Trajectory, agent_input

_WAIT_SECONDS = 0.2


class TrajectoryRounds:
    """Acts in the environments of all workers for one unroll each, in batches of whichever are waiting.

    A worker that has finished its unroll gets no action until the next round, so that all of a round's actions are of
    the same parameters. One that is restarted plays its unroll from the start; the others wait for it.

    Attributes:
      num_envs: environments of all workers.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        deadline: float,
        agent: Agent,
        write: Callable[[Trajectory], None],
        refresh: Callable[[], int],
        unroll_length: int,
        seed: int,
        task_ids: Sequence[Any],
        timings: Timings,
    ):
        """Starts the exchange with the workers.

        Args:
          mailbox: connects to the workers.
          deadline: seconds in which one of those that are awaited must answer.
          agent: the agent whose variables `refresh` overwrites.
          write: takes one finished unroll ([T + 1, ...] numpy arrays, valid only during the call).
          refresh: updates the agent's variables and returns the learner step that made them.
          unroll_length: T, in agent steps.
          seed: seed of the actions.
          task_ids: for each worker, the tasks of its environments, int32 [B].
          timings: must have `acting.actor.ACTIVITIES`.
        """
        self._mailbox, self._deadline, self._timings = mailbox, deadline, timings
        self._write, self._refresh = write, refresh
        self._policy = Policy(agent, seed)
        self._batch = mailbox.num_envs
        self.num_envs = mailbox.num_workers * self._batch
        initial = tree.map_structure(np.asarray, agent.initial_state(self._batch))
        self._workers = [
            WorkerUnrolls(Unrolls(mailbox.environment, agent.core_state_spec, self._batch, unroll_length, ids), initial)
            for ids in task_ids
        ]
        self._held: dict[int, EnvironmentOutput] = {}  # Outputs that have been recorded, to be answered next round.
        mailbox.open()

    def run_unroll(self, at_most: float = math.inf) -> int:
        """Refreshes the parameters, takes T steps in every environment and writes the finished unrolls.

        Args:
          at_most: number of unrolls to write; the others are dropped.

        Returns:
          The number of unrolls written: one of each environment, less those in which one failed, and `at_most`.

        Raises:
          UserError: the policy's logits are not finite; or as for `Mailbox.take`.
          EnvironmentFailed: a worker did not answer in time.
        """
        lap = self._timings.lap
        self._timings.begin()
        learner_step = self._refresh()
        lap("variables")
        written = 0
        waiting, self._held = self._held, {}
        left = set(range(len(self._workers)))  # Those that have not finished their unrolls.
        heard = time.monotonic()
        while left:
            if waiting:
                self._act(waiting, learner_step)
                waiting = {}
                lap("inference")
            taken = self._mailbox.take(_WAIT_SECONDS)
            lap("environment")
            now = time.monotonic()
            heard = now if taken else heard
            if now - heard > self._deadline:
                raise EnvironmentFailed(f"environment worker {min(left)} did not answer within {self._deadline:g} s")
            for number, start, output in taken:
                worker = self._workers[number]
                if start != worker.start:
                    worker.restart(start)
                worker.record(output)
                if worker.unrolls.finished:
                    left.discard(number)
                    for unroll in worker.unrolls.take(worker.core_state):
                        if written < at_most:
                            self._write(unroll)
                            written += 1
                # One that is restarted after it has finished begins its next unroll in the next round, too.
                (waiting if number in left else self._held)[number] = output
            lap("writer")
        return written

    def _act(self, waiting: dict[int, EnvironmentOutput], learner_step: int) -> None:
        """Takes one policy step for the workers that wait, and answers them."""
        workers = [self._workers[number] for number in waiting]
        inputs = agent_input(concatenate(list(waiting.values())), last_actions(workers, self._batch))
        action, logits, state = self._policy(inputs, concatenate([worker.core_state for worker in workers]))
        state = tree.map_structure(np.asarray, state)
        for i, (number, worker) in enumerate(zip(waiting, workers)):
            its = slice(i * self._batch, (i + 1) * self._batch)
            self._mailbox.answer(number, worker.start, action[its])
            worker.pending = PendingAction(action[its], logits[its], learner_step)
            worker.core_state = tree.map_structure(lambda x: x[its], state)  # noqa: B023

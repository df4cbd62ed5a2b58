"""The actor: steps a batch of environments with the policy and collects unrolls (IMPALA, section 3)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from impala_tf.acting.policy import Policy
from impala_tf.acting.unrolls import Unrolls
from impala_tf.environments.base import BatchedEnvironment
from impala_tf.networks.agent import Agent
from impala_tf.processes.timings import Timings
from impala_tf.structures import Trajectory, agent_input

ACTIVITIES = ("variables", "inference", "environment", "writer", "queue")
"""What an actor spends its time on; the caller measures "queue", the time that it waits for a full queue."""


class Actor:
    """Acts in B environments at once and collects one unroll of each at a time.

    Attributes:
      environment: the B environments.
      timings: time spent on `ACTIVITIES`.
    """

    def __init__(
        self,
        environment: BatchedEnvironment,
        agent: Agent,
        write: Callable[[Trajectory], None],
        refresh: Callable[[], int],
        unroll_length: int,
        seed: int,
        task_ids: np.ndarray | int = 0,
        timings: Timings | None = None,
    ):
        """Resets the environments.

        Args:
          environment: B environments.
          agent: the agent whose variables `refresh` overwrites.
          write: takes one finished unroll ([T + 1, ...] numpy arrays, valid only during the call).
          refresh: updates the agent's variables and returns the learner step that made them.
          unroll_length: T, in agent steps.
          seed: seed of the actions.
          task_ids: int32 [B], the task of each environment, or one int for all.
          timings: must have `ACTIVITIES`; None: new ones.
        """
        self.environment = environment
        self._write, self._refresh = write, refresh
        self._unroll_length = unroll_length
        self.timings = timings or Timings(ACTIVITIES)
        num_envs = environment.num_envs
        self._policy = Policy(agent, seed)
        self._core_state = agent.initial_state(num_envs)
        self._unrolls = Unrolls(environment.spec, agent.core_state_spec, num_envs, unroll_length, task_ids)
        output = environment.reset()
        self._unrolls.begin(output, self._core_state)
        self._inputs = agent_input(output, np.zeros(num_envs, np.int32))

    @property
    def num_envs(self) -> int:
        """B."""
        return self.environment.num_envs

    def run_unroll(self, at_most: float = math.inf) -> int:
        """Refreshes the parameters, takes T steps in every environment and writes the finished unrolls.

        Args:
          at_most: number of unrolls to write; the others are dropped.

        Returns:
          The number of unrolls written: B, less those in which an environment failed, and `at_most`.

        Raises:
          UserError: the policy's logits are not finite, so no action can be drawn.
          Exception: as for the environment's `step`.
        """
        lap = self.timings.lap
        self.timings.begin()
        learner_step = self._refresh()
        lap("variables")
        for _ in range(self._unroll_length):
            action, logits, self._core_state = self._policy(self._inputs, self._core_state)
            lap("inference")
            output = self.environment.step(action)
            lap("environment")
            self._unrolls.append(output, action, logits, learner_step)
            self._inputs = agent_input(output, action)
            lap("writer")
        written = 0
        for unroll in self._unrolls.take(self._core_state):
            if written < at_most:
                self._write(unroll)
                written += 1
        lap("writer")
        return written

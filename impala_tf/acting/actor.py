"""The actor: steps a batch of environments with the policy and writes unrolls (IMPALA, section 3)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from impala_tf.environments.base import BatchedEnvironment
from impala_tf.errors import UserError
from impala_tf.networks.agent import Agent
from impala_tf.structures import AgentInput, Trajectory, agent_input
from impala_tf.acting.unrolls import Unrolls


class Policy:
    """The behaviour policy mu: draws a_t from the softmax of the agent's logits."""

    def __init__(self, agent: Agent, seed: int):
        """`seed` fixes the actions."""
        self._agent, self._rng = agent, np.random.default_rng(seed)
        self._step: Callable[..., Any] | None = None

    def __call__(self, inputs: AgentInput, core_state: Any) -> tuple[np.ndarray, np.ndarray, Any]:
        """Acts once.

        Args:
          inputs: arrays [B, ...]; B may change from call to call.
          core_state: nest of float32 [B, ...].

        Returns:
          action int32 [B], the logits float32 [B, A] that it was drawn from, and the next core state.

        Raises:
          UserError: the logits are not finite, so that no action can be drawn.
        """
        arguments = tf.nest.map_structure(tf.convert_to_tensor, (inputs, core_state))
        if self._step is None:
            self._step = self._compile(*arguments)
        logits, core_state = self._step(*arguments)
        logits = logits.numpy()
        if not np.isfinite(logits).all():
            raise UserError(
                "The policy is not finite (NaN or infinite): training diverged. Lower --learning_rate or raise "
                "--rmsprop_epsilon, and start with another --logdir."
            )
        # The Gumbel-max trick: a draw from the softmax, at a fraction of the cost of TensorFlow's own ops for it.
        action = np.argmax(logits + self._rng.gumbel(size=logits.shape), axis=-1).astype(np.int32)
        return action, logits, core_state

    def _compile(self, inputs: AgentInput, core_state: Any) -> Callable[..., Any]:
        """One graph for any B. Called as such: to find it by its arguments takes longer than a small torso."""

        def step(inputs: AgentInput, core_state: Any) -> tuple[tf.Tensor, Any]:
            output, core_state = self._agent.step(inputs, core_state)
            return output.logits, core_state

        signature = tf.nest.map_structure(lambda x: tf.TensorSpec([None, *x.shape[1:]], x.dtype), (inputs, core_state))
        return tf.function(step, autograph=False).get_concrete_function(*signature)


class Actor:
    """Acts in B environments at once and collects one unroll of each at a time.

    Attributes:
      environment: its environments.
      seconds: {what: seconds spent in it since the start}: variables, inference, environment, writer.
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
    ):
        """Resets the environments.

        Args:
          environment: B environments.
          agent: its variables are what `refresh` overwrites.
          write: takes one finished unroll ([T + 1, ...] numpy arrays, valid only during the call).
          refresh: brings the agent's variables up to date and returns the learner step that made them.
          unroll_length: T, in agent steps.
          seed: of the actions.
          task_ids: int32 [B], the task of each environment.
        """
        self.environment = environment
        self._write, self._refresh = write, refresh
        self._unroll_length = unroll_length
        self.seconds = dict.fromkeys(("variables", "inference", "environment", "writer"), 0.0)
        num_envs = environment.num_envs
        self._policy = Policy(agent, seed)
        self._core_state = agent.initial_state(num_envs)
        self._unrolls = Unrolls(environment.spec, agent.core_state_spec, num_envs, unroll_length, task_ids)
        output = environment.reset()
        self._unrolls.begin(output, self._core_state)
        self._inputs = agent_input(output, np.zeros(num_envs, np.int32))

    def run_unroll(self) -> int:
        """Refreshes the parameters, takes T steps in every environment and writes the finished unrolls.

        Returns:
          How many they are: B, or less where environments failed.

        Raises:
          UserError: the policy's logits are not finite, so that no action can be drawn.
        """
        clock = Clock(self.seconds)
        learner_step = self._refresh()
        clock.lap("variables")
        for _ in range(self._unroll_length):
            action, logits, self._core_state = self._policy(self._inputs, self._core_state)
            clock.lap("inference")
            output = self.environment.step(action)
            clock.lap("environment")
            self._unrolls.append(output, action, logits, learner_step)
            self._inputs = agent_input(output, action)
            clock.lap("writer")
        written = 0
        for unroll in self._unrolls.take(self._core_state):
            self._write(unroll)
            written += 1
        clock.lap("writer")
        return written


def shares(seconds: dict[str, float], elapsed: float) -> str:
    """What share of the `elapsed` seconds went to what, for a log: "inference 20%, environment 70%"."""
    return ", ".join(f"{what} {spent / elapsed:.0%}" for what, spent in seconds.items())


class Clock:
    """Adds the time since the last lap to what it was spent on."""

    def __init__(self, seconds: dict[str, float]):
        self._seconds, self._last = seconds, time.perf_counter()

    def lap(self, what: str) -> None:
        now = time.perf_counter()
        self._seconds[what] += now - self._last
        self._last = now

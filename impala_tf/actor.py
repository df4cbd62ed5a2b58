"""The actor: steps a batch of environments with the policy and writes unrolls (IMPALA, section 3)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tree

from impala_tf.environments.base import BatchedEnvironment
from impala_tf.errors import UserError
from impala_tf.networks.agent import Agent
from impala_tf.structures import AgentInput, Trajectory
from impala_tf.transport.signatures import trajectory_signature


def make_policy(agent: Agent, seed: int) -> Callable[..., tuple[tf.Tensor, tf.Tensor, Any]]:
    """The compiled behaviour policy, (inputs [B, ...], core state, counter) to (action [B], logits [B, A], core state).

    It draws a_t ~ mu(. | x_t), the softmax of the logits, from `seed` and the counter, an int64 that must be another
    one each time: the seed fixes the actions.
    """

    def sample(inputs: AgentInput, core_state: Any, counter: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, Any]:
        output, core_state = agent.step(inputs, core_state)
        draw = tf.stack([tf.constant(seed, tf.int64), counter])
        action = tf.random.stateless_categorical(output.logits, 1, draw, dtype=tf.int32)[:, 0]
        return action, output.logits, core_state

    return tf.function(sample, autograph=False)


class Actor:
    """Acts in B environments at once and collects one unroll of each at a time.

    Attributes:
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
        task_id: int = 0,
    ):
        """Resets the environments.

        Args:
          environment: B environments.
          agent: its variables are what `refresh` overwrites.
          write: takes one finished unroll ([T + 1, ...] numpy arrays, valid only during the call).
          refresh: brings the agent's variables up to date and returns the learner step that made them.
          unroll_length: T, in agent steps.
          seed: of the actions.
          task_id: stamped on every unroll.
        """
        self._environment = environment
        self._write, self._refresh = write, refresh
        self._unroll_length = unroll_length
        self._agent_steps = 0
        self.seconds = dict.fromkeys(("variables", "inference", "environment", "writer"), 0.0)

        signature = trajectory_signature(environment.spec, agent.core_state_spec, unroll_length)
        self._unrolls: Trajectory = tree.map_structure(
            lambda spec: np.zeros((environment.num_envs, *spec.shape), spec.dtype.as_numpy_dtype), signature
        )
        self._unrolls.task_id[:] = task_id
        self._policy = make_policy(agent, seed)
        self._core_state = agent.initial_state(environment.num_envs)
        # Entry 0 of the first unroll: nothing led to the first observation, so its action, logits and reward stay 0.
        self._observe(0, environment.reset())

    def _observe(self, entry: int, output: Any) -> None:
        """Stores what the environments answered as entry `entry` of the unrolls."""
        for name, value in output._asdict().items():
            tree.map_structure(lambda column, x: np.copyto(column[:, entry], x), getattr(self._unrolls, name), value)

    def run_unroll(self) -> None:
        """Refreshes the parameters, takes T steps in every environment and writes the B finished unrolls.

        Raises:
          UserError: the policy's logits are not finite, so that no action can be drawn.
        """
        clock = _Clock(self.seconds)
        unrolls = self._unrolls
        learner_step = self._refresh()
        clock.lap("variables")
        tree.map_structure(lambda column, x: np.copyto(column, x), unrolls.core_state, self._core_state)
        for t in range(self._unroll_length):
            inputs = AgentInput(
                observation=tree.map_structure(lambda column: tf.convert_to_tensor(column[:, t]), unrolls.observation),  # noqa: B023
                last_reward=tf.convert_to_tensor(unrolls.reward[:, t]),
                last_action=tf.convert_to_tensor(unrolls.action[:, t]),
                episode_start=tf.convert_to_tensor(unrolls.terminated[:, t] | unrolls.truncated[:, t]),
            )
            counter = tf.constant(self._agent_steps, tf.int64)
            action, logits, self._core_state = self._policy(inputs, self._core_state, counter)
            action, logits = action.numpy(), logits.numpy()
            if not np.isfinite(logits).all():
                raise UserError(
                    f"The policy of learner step {learner_step} is not finite (NaN or infinite): training diverged. "
                    "Lower --learning_rate or raise --rmsprop_epsilon, and start with another --logdir."
                )
            clock.lap("inference")
            output = self._environment.step(action)
            clock.lap("environment")
            self._observe(t + 1, output)
            unrolls.action[:, t + 1], unrolls.behaviour_logits[:, t + 1] = action, logits
            unrolls.learner_step[:, t + 1] = learner_step
            self._agent_steps += 1
            clock.lap("writer")
        for i in range(self._environment.num_envs):
            self._write(tree.map_structure(lambda column: column[i], unrolls))  # noqa: B023
        # The next unroll overlaps by one: its entry 0 is this one's entry T.
        for column in tree.flatten(unrolls._replace(core_state=(), task_id=())):
            column[:, 0] = column[:, -1]
        clock.lap("writer")


class _Clock:
    """Adds the time since the last lap to what it was spent on."""

    def __init__(self, seconds: dict[str, float]):
        self._seconds, self._last = seconds, time.perf_counter()

    def lap(self, what: str) -> None:
        now = time.perf_counter()
        self._seconds[what] += now - self._last
        self._last = now

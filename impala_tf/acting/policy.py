"""The behavior policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from impala_tf.errors import UserError
from impala_tf.networks.agent import Agent
from impala_tf.structures import AgentInput


class Policy:
    """The behavior policy mu: draws a_t from the softmax of the agent's logits."""

    def __init__(self, agent: Agent, seed: int):
        """Compiles nothing yet; the first call does.

        Args:
          agent: computes the logits; its variables may change between two calls.
          seed: seed of the draws.
        """
        self._agent, self._rng = agent, np.random.default_rng(seed)
        self._step: Callable[[list[Any]], list[tf.Tensor]] | None = None

    def __call__(self, inputs: AgentInput, core_state: Any) -> tuple[np.ndarray, np.ndarray, Any]:
        """Draws one action for each environment.

        Args:
          inputs: arrays [B, ...]; B may change from call to call.
          core_state: nest of float32 [B, ...].

        Returns:
          Actions int32 [B], the logits float32 [B, A] that they were drawn from, and the next core state.

        Raises:
          UserError: the logits are not finite, so no action can be drawn.
        """
        if self._step is None:
            self._step = self._compile(*tf.nest.map_structure(tf.convert_to_tensor, (inputs, core_state)))
        first, *rest = self._step(tf.nest.flatten((inputs, core_state)))
        logits, core_state = first.numpy(), tf.nest.pack_sequence_as(core_state, rest)
        if not np.isfinite(logits).all():
            raise UserError(
                "The policy is not finite (NaN or infinite): training diverged. Lower --learning_rate or raise "
                "--rmsprop_epsilon, and start with another --logdir."
            )
        # The Gumbel-max trick draws from the softmax at a fraction of the cost of TensorFlow's own ops.
        action = np.argmax(logits + self._rng.gumbel(size=logits.shape), axis=-1).astype(np.int32)
        return action, logits, core_state

    def _compile(self, inputs: AgentInput, core_state: Any) -> Callable[[list[Any]], list[tf.Tensor]]:
        """Builds one graph for any B; returns a function from the flat arguments to logits and flat core state.

        The graph is called as an op, and takes NumPy arrays as they are. Calling the `tf.function`, or its concrete
        function, costs more than a small torso computes.
        """

        def step(inputs: AgentInput, core_state: Any) -> list[tf.Tensor]:
            output, core_state = self._agent.step(inputs, core_state)
            return [output.logits, *tf.nest.flatten(core_state)]

        signature = tf.nest.map_structure(lambda x: tf.TensorSpec([None, *x.shape[1:]], x.dtype), (inputs, core_state))
        graph = tf.function(step, autograph=False).get_concrete_function(*signature)
        types, variables = [output.dtype for output in graph.outputs], list(graph.captured_inputs)
        return lambda arguments: tf.raw_ops.StatefulPartitionedCall(args=arguments + variables, Tout=types, f=graph)

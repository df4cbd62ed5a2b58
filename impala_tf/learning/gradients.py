"""The gradients of the loss over a batch of unrolls (IMPALA, section 4.2)."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from impala_tf.config import LossConfig
from impala_tf.errors import UserError
from impala_tf.learning import losses
from impala_tf.networks.agent import Agent
from impala_tf.structures import AgentInput, Trajectory


class Gradients(NamedTuple):
    """The loss of a batch of unrolls and its gradients.

    Attributes:
      loss: float32 scalar.
      gradients: dense float32 gradients, one per variable of [*agent.head_variables, *agent.other_variables].
      metrics: float32 scalars by name, from `losses.impala_loss`.
    """

    loss: tf.Tensor
    gradients: tuple[tf.Tensor, ...]
    metrics: dict[str, tf.Tensor]


class LossGradients:
    """Computes `Gradients` in compiled parts, so that each part can be inside or outside an XLA cluster.

    The parts are the convolutions on one side, and the heads, the loss and their gradients on the other. Instruction
    and core lie between them and are never inside a cluster: cuDNN's operations cannot be, and shapes there depend on
    the data. All parts are traced without AutoGraph, which nothing here needs and which would take most of the tracing
    time.
    """

    def __init__(self, agent: Agent, config: LossConfig, xla: bool):
        """
        Args:
          agent: the network.
          config: settings of the loss.
          xla: whether to compile the parts with XLA.
        """
        self._agent = agent
        self._config = config
        self._features = tf.function(agent.features, jit_compile=xla, autograph=False)
        self._from_outputs = tf.function(self._heads_and_loss, jit_compile=xla, autograph=False)
        self._compiled = tf.function(self._compute, autograph=False)

    def __call__(self, unrolls: Trajectory) -> Gradients:
        """Returns the gradients of the loss, summed over `unrolls`, time-major [T + 1, B, ...]."""
        return self._compiled(unrolls)

    def trace(self, unroll: Trajectory, batch_size: int) -> Gradients:
        """Builds the graph ahead of the first call.

        Args:
          unroll: `tf.TensorSpec`s of one unroll, without batch dimension.
          batch_size: B.

        Returns:
          The `tf.TensorSpec`s of what calls return.
        """
        traced = self._compiled.get_concrete_function(time_major(unroll, batch_size))
        loss, _, metrics = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), traced.structured_outputs)
        variables = [*self._agent.head_variables, *self._agent.other_variables]
        return Gradients(loss, tuple(tf.TensorSpec(variable.shape, tf.float32) for variable in variables), metrics)

    def _compute(self, unrolls: Trajectory) -> Gradients:
        inputs = AgentInput(
            observation=unrolls.observation,
            last_reward=unrolls.reward,
            last_action=unrolls.action,
            episode_start=tf.logical_or(unrolls.terminated, unrolls.truncated),
        )
        with tf.GradientTape() as tape:
            features = self._features(unrolls.observation)
            outputs, _ = self._agent.unroll_core(features, inputs, unrolls.core_state)
        outputs_gradient, head_gradients, metrics = self._from_outputs(outputs, unrolls)
        other_gradients = tape.gradient(outputs, self._agent.other_variables, outputs_gradient)
        unused = [v.name for v, gradient in zip(self._agent.other_variables, other_gradients) if gradient is None]
        if unused:
            raise UserError(
                f"The loss does not depend on {', '.join(unused)}: leave out the layers that --torso does not use."
            )
        # The gradient of an embedding is sparse and may repeat rows. Dense, their sum has the right norm.
        gradients = tuple(tf.convert_to_tensor(gradient) for gradient in (*head_gradients, *other_gradients))
        return Gradients(metrics["total_loss"], gradients, metrics)

    def _heads_and_loss(
        self, outputs: tf.Tensor, unrolls: Trajectory
    ) -> tuple[tf.Tensor, list[tf.Tensor], dict[str, tf.Tensor]]:
        """Differentiates the loss with respect to the core's outputs and to the heads' variables.

        Args:
          outputs: the core's outputs, float32 [T + 1, B, D].
          unrolls: time-major [T + 1, B, ...].

        Returns:
          The gradient of the outputs, the gradients of the heads' variables, and the loss's metrics.
        """
        config = self._config
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            loss, metrics = losses.impala_loss(
                self._agent.heads(outputs),
                unrolls,
                discount=config.discount,
                baseline_cost=config.baseline_cost,
                entropy_cost=config.entropy_cost,
                reward_clipping=config.reward_clipping,
                correction=config.correction,
                rho_bar=config.rho_bar,
                c_bar=config.c_bar,
                pg_rho_bar=config.pg_rho_bar,
                lambda_=config.vtrace_lambda,
                q_estimate=config.q_estimate,
            )
        outputs_gradient, *head_gradients = tape.gradient(loss, [outputs, *self._agent.head_variables])
        return outputs_gradient, head_gradients, metrics


def time_major(unroll: Trajectory, batch_size: int) -> Trajectory:
    """Returns the `tf.TensorSpec`s [T + 1, B, ...] of a batch from those of one unroll, [T + 1, ...]."""

    def batched(spec: tf.TensorSpec, time_major: bool) -> tf.TensorSpec:
        shape = list(spec.shape)
        return tf.TensorSpec([*shape[:time_major], batch_size, *shape[time_major:]], spec.dtype)

    specs = tf.nest.map_structure(lambda spec: batched(spec, True), unroll._replace(core_state=(), task_id=()))
    core_state = tf.nest.map_structure(lambda spec: batched(spec, False), unroll.core_state)
    return specs._replace(core_state=core_state, task_id=batched(unroll.task_id, False))

"""The learner: one compiled update per batch of unrolls (IMPALA, section 4.2)."""

from __future__ import annotations

import tensorflow as tf

from impala_tf.learning import losses
from impala_tf.config import Config
from impala_tf.networks.agent import Agent
from impala_tf.learning.optimizer import Optimizer, linear_schedule
from impala_tf.structures import AgentInput, Trajectory


class Learner(tf.Module):
    """Holds what training changes and changes it.

    Attributes:
      agent: the network; its variables are the parameters.
      optimizer: RMSProp and its slots.
      step_count: int64 variable, batches consumed, refused updates included.
      frames: int64 variable, environment frames in those batches; the position in the learning rate's schedule.
      refused: int64 variable, updates refused because the loss or the gradient was not finite.
      refused_in_a_row: int64 variable, how many of them were the last ones.
    """

    def __init__(self, agent: Agent, config: Config, frames_per_step: int):
        """Builds the optimiser and compiles the update at its first call.

        Args:
          agent: to be trained.
          config: loss, optimiser and compilation settings.
          frames_per_step: environment frames per agent step.
        """
        super().__init__()
        self.agent = agent
        self.optimizer = Optimizer(
            [*agent.head_variables, *agent.other_variables],
            decay=config.optimizer.rmsprop_decay,
            momentum=config.optimizer.rmsprop_momentum,
            epsilon=config.optimizer.rmsprop_epsilon,
            clip_norm=config.optimizer.max_gradient_norm,
        )
        self.step_count = tf.Variable(0, dtype=tf.int64, trainable=False, name="step_count")
        self.frames = tf.Variable(0, dtype=tf.int64, trainable=False, name="frames")
        self.refused = tf.Variable(0, dtype=tf.int64, trainable=False, name="refused")
        self.refused_in_a_row = tf.Variable(0, dtype=tf.int64, trainable=False, name="refused_in_a_row")
        self._config = config
        self._frames_per_step = frames_per_step
        self.xla = use_xla(config.run.xla)
        # The update is compiled in parts, so that each can be inside or outside an XLA cluster: the convolutions;
        # heads, loss and their gradients; and the optimiser. What is between the first two, instruction and core, is
        # never inside: cuDNN cannot be, and shapes there depend on the data. Without AutoGraph, which nothing here
        # needs and which would take most of the time that tracing takes.
        self._features = tf.function(agent.features, jit_compile=self.xla, autograph=False)
        self._loss_gradients = tf.function(self._loss_gradients_from_outputs, jit_compile=self.xla, autograph=False)
        self._apply = tf.function(self._apply_if_finite, jit_compile=self.xla, autograph=False)
        self.step = tf.function(self._step, autograph=False)

    def trace(self, signature: Trajectory, batch_size: int) -> None:
        """Builds the update's graph ahead of its first call, for unrolls of `signature` in batches of `batch_size`."""

        def batched(spec: tf.TensorSpec, time_major: bool) -> tf.TensorSpec:
            shape = list(spec.shape)
            return tf.TensorSpec([*shape[:time_major], batch_size, *shape[time_major:]], spec.dtype)

        specs = tf.nest.map_structure(lambda spec: batched(spec, True), signature._replace(core_state=(), task_id=()))
        core_state = tf.nest.map_structure(lambda spec: batched(spec, False), signature.core_state)
        self.step.get_concrete_function(
            specs._replace(core_state=core_state, task_id=batched(signature.task_id, False))
        )

    def _step(self, batch: Trajectory) -> dict[str, tf.Tensor]:
        """One update.

        Args:
          batch: time-major [T + 1, B, ...].

        Returns:
          float32 scalars by name: those of `impala_loss`, `gradient_norm` (before clipping) and `learning_rate`.
        """
        config = self._config.optimizer
        learning_rate = linear_schedule(config.learning_rate, self.frames, self._config.annealing_frames)
        inputs = AgentInput(
            observation=batch.observation,
            last_reward=batch.reward,
            last_action=batch.action,
            episode_start=tf.logical_or(batch.terminated, batch.truncated),
        )
        with tf.GradientTape() as tape:
            outputs, _ = self.agent.remember(self._features(batch.observation), inputs, batch.core_state)
        outputs_gradient, gradients, metrics = self._loss_gradients(outputs, batch)
        gradients = [*gradients, *tape.gradient(outputs, self.agent.other_variables, outputs_gradient)]
        # The embedding's gradient is sparse and repeats rows, which a norm would take for different ones.
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        gradient_norm = self._apply(metrics["total_loss"], gradients, learning_rate)
        unroll_length, batch_size = batch.action.shape[0] - 1, batch.action.shape[1]
        self.step_count.assign_add(1)
        self.frames.assign_add(unroll_length * batch_size * self._frames_per_step)
        return {"gradient_norm": gradient_norm, "learning_rate": learning_rate, **metrics}

    def _loss_gradients_from_outputs(
        self, outputs: tf.Tensor, batch: Trajectory
    ) -> tuple[tf.Tensor, list[tf.Tensor], dict[str, tf.Tensor]]:
        """Gradients of the loss by the core's outputs, float32 [T + 1, B, D], and by the heads' variables; metrics."""
        config = self._config.loss
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            loss, metrics = losses.impala_loss(
                self.agent.heads(outputs),
                batch,
                discount=config.discount,
                baseline_cost=config.baseline_cost,
                entropy_cost=config.entropy_cost,
                reward_clipping=config.reward_clipping,
                rho_bar=config.rho_bar,
                c_bar=config.c_bar,
                pg_rho_bar=config.pg_rho_bar,
                lambda_=config.vtrace_lambda,
            )
        outputs_gradient, *gradients = tape.gradient(loss, [outputs, *self.agent.head_variables])
        return outputs_gradient, gradients, metrics

    def _apply_if_finite(self, loss: tf.Tensor, gradients: list[tf.Tensor], learning_rate: tf.Tensor) -> tf.Tensor:
        """Applies the gradients, or refuses the whole update: one NaN would spread to every parameter and slot."""
        gradient_norm = tf.linalg.global_norm(gradients)
        finite = tf.math.is_finite(loss) & tf.math.is_finite(gradient_norm)

        def update() -> tf.Tensor:
            self.optimizer.apply(gradients, [*self.agent.head_variables, *self.agent.other_variables], learning_rate)
            return tf.constant(0, tf.int64)

        self.refused_in_a_row.assign(tf.cond(finite, update, lambda: self.refused_in_a_row + 1))
        self.refused.assign_add(tf.cast(~finite, tf.int64))
        return gradient_norm


def use_xla(setting: str) -> bool:
    """Whether to compile with XLA: "on", "off", or "auto", which says yes on a GPU.

    XLA's convolutions on a CPU are much slower than oneDNN's, which TensorFlow calls without it.
    """
    return setting == "on" or (setting == "auto" and bool(tf.config.list_physical_devices("GPU")))

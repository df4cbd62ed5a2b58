"""The learner: one compiled update per batch of unrolls (IMPALA, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from impala_tf.config import Config
from impala_tf.learning.gradients import Gradients, LossGradients, time_major
from impala_tf.learning.group import ALONE, Group
from impala_tf.learning.optimizer import Optimizer, linear_schedule
from impala_tf.networks.agent import Agent
from impala_tf.structures import Batch, Trajectory


class Learner(tf.Module):
    """Owns the training state and updates it.

    An update is `gradients` followed by `apply`; `step` does both in one compiled function.

    Attributes:
      agent: the network; its variables are the parameters.
      optimizer: RMSProp and its slots.
      step_count: int64 variable, number of updates, refused ones included.
      frames: int64 variable, environment frames in fresh unrolls so far; the position in the learning rate's schedule.
      refused: int64 variable, number of updates refused because the loss or the gradient was not finite.
      refused_in_a_row: int64 variable, number of refused updates since the last accepted one.
      xla: whether the parts of the update are compiled with XLA.
      group: the learners of the run, which update together.
    """

    def __init__(self, agent: Agent, config: Config, frames_per_step: int, group: Group = ALONE):
        """Creates the optimizer; the update is compiled by `trace` or the first call.

        Args:
          agent: the network to train.
          config: settings of the run; loss, optimizer and compilation are used.
          frames_per_step: environment frames per agent step.
          group: the learners of the run: an update sums their gradients.
        """
        super().__init__()
        self.agent, self.group = agent, group
        self.optimizer = Optimizer(
            [*agent.head_variables, *agent.other_variables],
            decay=config.optimizer.rmsprop_decay,
            momentum=config.optimizer.rmsprop_momentum,
            epsilon=config.optimizer.rmsprop_epsilon,
            clip_norm=config.optimizer.max_gradient_norm,
            initial=config.optimizer.rmsprop_initial,
        )
        self.step_count = tf.Variable(0, dtype=tf.int64, trainable=False, name="step_count")
        self.frames = tf.Variable(0, dtype=tf.int64, trainable=False, name="frames")
        self.refused = tf.Variable(0, dtype=tf.int64, trainable=False, name="refused")
        self.refused_in_a_row = tf.Variable(0, dtype=tf.int64, trainable=False, name="refused_in_a_row")
        self._config = config
        self._frames_per_step = frames_per_step
        self.xla = use_xla(config.launch.xla)
        self._loss_gradients = LossGradients(agent, config.loss, self.xla)
        # Without AutoGraph, as in `LossGradients`. The optimizer is an XLA cluster of its own.
        self._update_if_finite = tf.function(self._optimize_if_finite, jit_compile=self.xla, autograph=False)
        self._compiled_apply = tf.function(self._apply, autograph=False)
        self._compiled_step = tf.function(self._step, autograph=False)

    def trace(self, signature: Trajectory, batch_size: int) -> None:
        """Builds the graph of `step` ahead of its first call.

        Args:
          signature: `tf.TensorSpec`s of one unroll, without batch dimension.
          batch_size: B.
        """
        unrolls = time_major(signature, batch_size)
        self._compiled_step.get_concrete_function(Batch(unrolls, fresh=tf.TensorSpec([batch_size], tf.bool)))

    def trace_apply(self, signature: Gradients) -> None:
        """Builds the graph of `apply` ahead of its first call, from the `tf.TensorSpec`s of gradients."""
        self._compiled_apply.get_concrete_function(signature, tf.TensorSpec((), tf.int64))

    def gradients(self, unrolls: Trajectory) -> Gradients:
        """Returns the gradients of the loss over `unrolls`, time-major [T + 1, B, ...], and changes nothing."""
        return self._loss_gradients(unrolls)

    def apply(self, gradients: Gradients, frames) -> dict[str, tf.Tensor]:
        """Updates the parameters with `gradients` and counts the update.

        If the loss or the gradient is not finite, the whole update is refused: a single NaN would spread to every
        parameter and slot. Refused updates still count as steps, and their frames count too.

        Args:
          gradients: from `gradients`, of this learner or of another one with the same parameters.
          frames: integer scalar, environment frames to count.

        Returns:
          float32 scalars by name: `gradient_norm` (before clipping), `learning_rate` and the metrics in `gradients`.
        """
        return self._compiled_apply(gradients, tf.cast(frames, tf.int64))

    def step(self, batch: Batch) -> dict[str, tf.Tensor]:
        """Does one update; the environment frames of the batch's fresh unrolls are counted.

        Args:
          batch: unrolls time-major [T + 1, B, ...].

        Returns:
          The metrics of `apply`.
        """
        return self._compiled_step(batch)

    def _step(self, batch: Batch) -> dict[str, tf.Tensor]:
        unroll_length = batch.unrolls.action.shape[0] - 1
        frames = tf.math.count_nonzero(batch.fresh, dtype=tf.int64) * (unroll_length * self._frames_per_step)
        return self._apply(self._loss_gradients(batch.unrolls), frames)

    def _apply(self, gradients: Gradients, frames: tf.Tensor) -> dict[str, tf.Tensor]:
        if self.group.size > 1:
            gradients, frames = self._summed(gradients, frames)
        initial = self._config.optimizer.learning_rate
        learning_rate = linear_schedule(initial, self.frames, self._config.annealing_frames)
        gradient_norm = self._update_if_finite(gradients.loss, gradients.gradients, learning_rate)
        with tf.control_dependencies([gradient_norm]):  # Nothing is counted if the sum over the learners fails.
            self.step_count.assign_add(1)
            self.frames.assign_add(frames)
        return {"gradient_norm": gradient_norm, "learning_rate": learning_rate, **gradients.metrics}

    def _summed(self, gradients: Gradients, frames: tf.Tensor) -> tuple[Gradients, tf.Tensor]:
        """Returns the gradients and the frames of all learners together, as if one had drawn all of their unrolls.

        What follows, such as clipping, the schedule and refusing an update, is then the same for all of them.
        """
        names = sorted(gradients.metrics)
        metrics = [gradients.metrics[name] for name in names]
        # In one call, as float32: an update's frames are exact below 2^24.
        loss, count, *summed = self.group.sum(
            [gradients.loss, tf.cast(frames, tf.float32), *metrics, *gradients.gradients]
        )
        # Losses are sums over the batch, everything else is a mean.
        metrics = [s if name.endswith("_loss") else s / self.group.size for name, s in zip(names, summed)]
        together = Gradients(loss, tuple(summed[len(names) :]), dict(zip(names, metrics)))
        return together, tf.cast(count, tf.int64)

    def _optimize_if_finite(
        self, loss: tf.Tensor, gradients: Sequence[tf.Tensor], learning_rate: tf.Tensor
    ) -> tf.Tensor:
        """Applies the gradients if they and the loss are finite; returns the gradients' global norm."""
        gradient_norm = tf.linalg.global_norm(gradients)
        finite = tf.math.is_finite(loss) & tf.math.is_finite(gradient_norm)

        def update() -> tf.Tensor:
            self.optimizer.apply(gradients, [*self.agent.head_variables, *self.agent.other_variables], learning_rate)
            return tf.constant(0, tf.int64)

        self.refused_in_a_row.assign(tf.cond(finite, update, lambda: self.refused_in_a_row + 1))
        self.refused.assign_add(tf.cast(~finite, tf.int64))
        return gradient_norm


def use_xla(setting: str) -> bool:
    """Returns whether to compile with XLA.

    XLA's convolutions on a CPU are much slower than oneDNN's, which TensorFlow uses without XLA.

    Args:
      setting: "on", "off", or "auto" (on if there is a GPU).
    """
    return setting == "on" or (setting == "auto" and bool(tf.config.list_physical_devices("GPU")))

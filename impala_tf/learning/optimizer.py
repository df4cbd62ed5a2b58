"""RMSProp as in TensorFlow 1, gradient clipping by global norm, and a learning rate annealed by frames (Table G.1)."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


class Optimizer(tf.Module):
    """RMSProp with epsilon inside the square root and mean squares that start at one (the paper's, TensorFlow 1's).

        mean_square <- decay mean_square + (1 - decay) g^2
        step        <- momentum step + learning_rate g / sqrt(mean_square + epsilon)
        variable    <- variable - step

    Keras's and torch's RMSProp put epsilon outside the root and start at zero, which makes the first steps far larger.
    TensorFlow 1's optimizer creates its slots during the first update; here they exist from the start, so that a
    checkpoint can be restored, and an update can stand under `tf.cond` and `jit_compile`.
    """

    def __init__(
        self,
        variables: Sequence[tf.Variable],
        decay: float = 0.99,
        momentum: float = 0.0,
        epsilon: float = 0.01,
        clip_norm: float | None = 40.0,
    ):
        """
        Args:
          variables: what `apply` will update, in that order.
          decay: of the mean square. The paper does not state it; 0.99 is that of the authors' scalable_agent.
          momentum: 0 in the paper (Tables D.3, G.1).
          epsilon: 0.01 for Atari (Table G.1), swept from 1e-7 to 0.1 for DMLab (Table D.1).
          clip_norm: gradients of a larger global norm are scaled down to it (40 in Table G.1); 0 or None: they are not.
        """
        super().__init__()
        self._hyperparameters = {"rho": decay, "momentum": momentum, "epsilon": epsilon}
        self._clip_norm = clip_norm
        self._mean_squares = [tf.Variable(tf.ones(v.shape, v.dtype), trainable=False) for v in variables]
        self._steps = [tf.Variable(tf.zeros(v.shape, v.dtype), trainable=False) for v in variables]

    def apply(self, gradients: Sequence[tf.Tensor], variables: Sequence[tf.Variable], learning_rate) -> tf.Tensor:
        """Updates `variables` in place.

        Args:
          gradients: of the loss, one for each variable.
          variables: those of the constructor.
          learning_rate: scalar, a number or a tensor; may differ from call to call.

        Returns:
          The global norm of the gradients before clipping, float32 scalar.

        Raises:
          ValueError: a gradient is missing, or there are more or fewer of them or of variables than in the constructor.
        """
        if not len(gradients) == len(variables) == len(self._steps):
            raise ValueError(
                f"There are {len(gradients)} gradients and {len(variables)} variables, slots for {len(self._steps)}."
            )
        without = [v.name for v, gradient in zip(variables, gradients) if gradient is None]
        if without:
            raise ValueError(f"The loss does not depend on {', '.join(without)}.")
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]  # Repeated sparse rows add up.
        norm = tf.linalg.global_norm(gradients)
        if self._clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, self._clip_norm, use_norm=norm)
        slots = zip(variables, self._mean_squares, self._steps, gradients)
        for variable, mean_square, step, gradient in slots:
            tf.raw_ops.ResourceApplyRMSProp(
                var=variable.handle,
                ms=mean_square.handle,
                mom=step.handle,
                lr=tf.cast(learning_rate, variable.dtype),
                grad=gradient,
                **{name: tf.constant(x, variable.dtype) for name, x in self._hyperparameters.items()},
            )
        return norm


def linear_schedule(initial: float, frames, horizon: float) -> tf.Tensor:
    """Learning rate falling linearly from `initial` at 0 to 0 at `horizon`, and 0 from there on (Table G.1).

    Args:
      initial: learning rate at the start.
      frames: environment frames that the learner has consumed; scalar, a number or a tensor of any type.
      horizon: environment frames of the whole run, more than 0.

    Returns:
      float32 scalar.
    """
    done = tf.cast(frames, tf.float32) / float(horizon)
    return initial * tf.maximum(1.0 - done, 0.0)

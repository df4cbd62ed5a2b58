"""RMSProp as in TensorFlow 1 with clipping by global norm, and a linearly annealed learning rate (Table G.1)."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


class Optimizer(tf.Module):
    """RMSProp with epsilon inside the square root, as in TensorFlow 1 and the paper.

        mean_square <- decay mean_square + (1 - decay) g^2
        step        <- momentum step + learning_rate g / sqrt(mean_square + epsilon)
        variable    <- variable - step

    The RMSProp of Keras and PyTorch puts epsilon outside the root. TensorFlow 1's optimizer creates its slots during
    the first update; here they exist from the start, so that checkpoints can be restored and updates can run under
    `tf.cond` and `jit_compile`.
    """

    def __init__(
        self,
        variables: Sequence[tf.Variable],
        decay: float = 0.99,
        momentum: float = 0.0,
        epsilon: float = 0.01,
        clip_norm: float | None = 40.0,
        initial: float = 1.0,
    ):
        """Creates the slots of every variable.

        Args:
          variables: the variables that `apply` updates, in order.
          decay: decay of the mean square. Not in the paper; 0.99 is the value in the authors' scalable_agent.
          momentum: 0 in the paper (Tables D.3, G.1).
          epsilon: 0.01 for Atari (Table G.1), swept from 1e-7 to 0.1 for DMLab (Table D.1).
          clip_norm: global norm to which larger gradients are scaled down (40 in Table G.1); 0 or None does not clip.
          initial: what the mean squares start at; 1 in TensorFlow 1. With 0, the first few hundred steps are up to ten
            times larger, if decay and epsilon are the defaults.
        """
        super().__init__()
        self._hyperparameters = {"rho": decay, "momentum": momentum, "epsilon": epsilon}
        self._clip_norm = clip_norm
        self._mean_squares = [
            tf.Variable(tf.fill(v.shape, tf.cast(initial, v.dtype)), trainable=False) for v in variables
        ]
        self._steps = [tf.Variable(tf.zeros(v.shape, v.dtype), trainable=False) for v in variables]

    def apply(self, gradients: Sequence[tf.Tensor], variables: Sequence[tf.Variable], learning_rate) -> tf.Tensor:
        """Updates `variables` in place.

        Args:
          gradients: one for each variable.
          variables: the constructor's variables.
          learning_rate: scalar, a number or a tensor; may differ from call to call.

        Returns:
          The global norm of the gradients before clipping, float32 scalar.

        Raises:
          ValueError: a gradient is None, or the number of gradients or variables differs from the constructor's.
        """
        if not len(gradients) == len(variables) == len(self._steps):
            raise ValueError(
                f"There are {len(gradients)} gradients and {len(variables)} variables, but slots for "
                f"{len(self._steps)} variables."
            )
        without = [v.name for v, gradient in zip(variables, gradients) if gradient is None]
        if without:
            raise ValueError(f"The loss does not depend on {', '.join(without)}.")
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]  # Sums repeated sparse rows.
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
    """Returns the learning rate, annealed linearly from `initial` at frame 0 to 0 at `horizon` (Table G.1).

    Args:
      initial: learning rate at frame 0.
      frames: environment frames consumed so far; scalar, a number or a tensor of any numeric type.
      horizon: environment frame at which the learning rate reaches 0, and stays there; greater than 0.

    Returns:
      float32 scalar.
    """
    done = tf.cast(frames, tf.float32) / float(horizon)
    return initial * tf.maximum(1.0 - done, 0.0)

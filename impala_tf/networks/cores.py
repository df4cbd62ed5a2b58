"""Cores: what stands between torso and heads, and gives the agent a memory or none (IMPALA, Figure 3).

Cores compute in float32 whatever the torso computes in: they are a small part of the work, and their rounding errors
would add up over the unroll.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from impala_tf.errors import UserError
from impala_tf.networks import initializers
from impala_tf.structures import ArraySpec

LSTM_UNITS = 256  # Figure 3.


class Core(tf.Module):
    """The interface of a core.

    Attributes:
      output_size: D, the size of its outputs.
      state_spec: nest of `ArraySpec`, the state of one environment (without batch); empty for a core without memory.
    """

    output_size: int
    state_spec: Any

    def initial_state(self, batch_size) -> Any:
        """The state at the start of an episode: `state_spec`'s nest, float32 [B, ...]."""
        raise NotImplementedError

    def unroll(self, features, last_reward, last_action, episode_start, core_state) -> tuple[tf.Tensor, Any]:
        """Runs over T steps; time-major.

        Args:
          features: float32 [T, B, F], of the torso.
          last_reward: float32 [T, B], unclipped.
          last_action: int32 [T, B].
          episode_start: bool [T, B]; where true, the state is reset before this step.
          core_state: nest of float32 [B, ...], before the first step.

        Returns:
          outputs float32 [T, B, D], and the state behind the last step, the nest of `core_state`.
        """
        raise NotImplementedError


class FeedForwardCore(Core):
    """No memory: features pass through, reward and action are not looked at, the state is the empty tuple."""

    def __init__(self, num_features: int):
        super().__init__()
        self.output_size = num_features
        self.state_spec = ()

    def initial_state(self, batch_size) -> Any:
        return ()

    def unroll(self, features, last_reward, last_action, episode_start, core_state) -> tuple[tf.Tensor, Any]:
        return features, core_state


class LSTMCore(Core):
    """LSTM over features, the last reward clipped to [-1, 1] and the last action one-hot (Figure 3).

    The state is (h, c), each [units]. The variables are those of a `tf.keras.layers.LSTMCell` (gates in the order
    input, forget, cell, output; one bias vector per gate), which other implementations of the recurrence can share.
    """

    def __init__(self, num_features: int, num_actions: int, units: int = LSTM_UNITS, seed: int = 0):
        super().__init__()
        self.output_size = units
        self.state_spec = (ArraySpec((units,), np.dtype(np.float32)),) * 2
        self._num_actions = num_actions
        seeds = initializers.seeds(seed)
        # Glorot uniform and a forget bias of 1, as the LSTM of the authors' scalable_agent.
        self._cell = tf.keras.layers.LSTMCell(
            units,
            kernel_initializer=tf.keras.initializers.GlorotUniform(next(seeds)),
            recurrent_initializer=tf.keras.initializers.GlorotUniform(next(seeds)),
            unit_forget_bias=True,
            dtype=tf.float32,
        )
        self._cell.build([None, num_features + 1 + num_actions])

    def initial_state(self, batch_size) -> Any:
        return tuple(tf.zeros([batch_size, *spec.shape]) for spec in self.state_spec)

    def unroll(self, features, last_reward, last_action, episode_start, core_state) -> tuple[tf.Tensor, Any]:
        return self._recur(self._inputs(features, last_reward, last_action), episode_start, core_state)

    def _inputs(self, features, last_reward, last_action) -> tf.Tensor:
        """[T, B, F + 1 + num_actions]."""
        reward = tf.clip_by_value(tf.cast(last_reward, tf.float32), -1.0, 1.0)
        action = tf.one_hot(last_action, self._num_actions)
        return tf.concat([features, reward[..., tf.newaxis], action], axis=-1)

    def _recur(self, inputs, episode_start, core_state) -> tuple[tf.Tensor, Any]:
        """The recurrence as a loop over the cell, state masked at episode starts."""
        # The inputs' share of the gates does not wait for the state: one large product instead of T small ones.
        projected = tf.tensordot(inputs, self._cell.kernel, 1) + self._cell.bias

        def step(state, now):
            projected_t, episode_start_t = now
            # Selected, not multiplied: a state that is not finite must not outlive its episode.
            h, c = (tf.where(episode_start_t[:, tf.newaxis], 0.0, x) for x in state)
            gates = projected_t + tf.matmul(h, self._cell.recurrent_kernel)
            i, f, g, o = tf.split(gates, 4, axis=-1)
            c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
            return tf.sigmoid(o) * tf.tanh(c), c

        if inputs.shape[0] == 1:  # An actor's step: a loop would cost more than its body.
            h, c = step(core_state, (projected[0], episode_start[0]))
            return h[tf.newaxis], (h, c)
        hs, cs = tf.scan(step, (projected, episode_start), initializer=tuple(core_state))
        return hs, (hs[-1], cs[-1])


NAMES = ("none", "lstm")


def make_core(name: str, num_features: int, num_actions: int, seed: int = 0) -> Core:
    """Builds the core called `name`, one of `NAMES`, for torso features [T, B, num_features].

    Raises:
      UserError: the name is unknown.
    """
    if name == "none":
        return FeedForwardCore(num_features)
    if name == "lstm":
        return LSTMCore(num_features, num_actions, seed=seed)
    raise UserError(f"Unknown core {name!r}; choose one of {', '.join(NAMES)}.")

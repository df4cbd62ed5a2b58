"""Cores: the part of the agent between torso and heads, with or without memory (IMPALA, Figure 3).

Cores always compute in float32, whatever the torso's precision: they are a small part of the work, and rounding errors
would accumulate over the unroll.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from impala_tf.errors import UserError
from impala_tf.networks import initializers, lstm, packing
from impala_tf.structures import ArraySpec

LSTM_UNITS = 256  # Figure 3.


class Core(tf.Module):
    """Interface of all cores.

    Attributes:
      output_size: D, the size of the outputs.
      state_spec: nest of `ArraySpec`, the state of one environment (no batch dimension); empty without memory.
    """

    output_size: int
    state_spec: Any

    def initial_state(self, batch_size) -> Any:
        """Returns the state at the start of an episode: float32 [B, ...], nested like `state_spec`."""
        raise NotImplementedError

    def unroll(self, features, last_reward, last_action, episode_start, core_state) -> tuple[tf.Tensor, Any]:
        """Runs the core over T steps.

        Args:
          features: float32 [T, B, F], from the torso.
          last_reward: float32 [T, B], unclipped.
          last_action: int32 [T, B].
          episode_start: bool [T, B]; where true, the state is reset before this step.
          core_state: nest of float32 [B, ...], the state before the first step.

        Returns:
          The outputs, float32 [T, B, D], and the state after the last step, nested like `core_state`.
        """
        raise NotImplementedError


class FeedForwardCore(Core):
    """Passes the features through, ignoring reward and action; has no memory, so its state is the empty tuple."""

    def __init__(self, num_features: int):
        super().__init__()
        self.output_size = num_features
        self.state_spec = ()

    def initial_state(self, batch_size) -> Any:
        return ()

    def unroll(self, features, last_reward, last_action, episode_start, core_state) -> tuple[tf.Tensor, Any]:
        return features, core_state


class LSTMCore(Core):
    """LSTM over the features, the last reward clipped to [-1, 1], and the one-hot last action (Figure 3).

    The state is (h, c), each [units]. The variables are those of a `tf.keras.layers.LSTMCell` (gates in the order
    input, forget, cell, output; one bias vector per gate), whichever kernel computes the recurrence.
    """

    def __init__(
        self, num_features: int, num_actions: int, units: int = LSTM_UNITS, seed: int = 0, kernel: str = "auto"
    ):
        """Creates the variables; `kernel` is one of `KERNELS`, see `unroll`."""
        super().__init__()
        self.output_size = units
        self.state_spec = (ArraySpec((units,), np.dtype(np.float32)),) * 2
        self._num_actions = num_actions
        self._packed = kernel == "packed" or (kernel == "auto" and lstm.has_gpu())
        self._cell = lstm.make_cell(units, num_features + 1 + num_actions, initializers.seeds(seed))

    def initial_state(self, batch_size) -> Any:
        return tuple(tf.zeros([batch_size, *spec.shape]) for spec in self.state_spec)

    def unroll(self, features, last_reward, last_action, episode_start, core_state) -> tuple[tf.Tensor, Any]:
        """Runs the LSTM over T steps, with either kernel; see `Core.unroll`.

        "loop" resets the state between steps. "packed" cuts the unrolls at episode starts, since cuDNN's LSTM cannot
        reset its state within a sequence; it does not compile with XLA.
        """
        inputs = self._inputs(features, last_reward, last_action)
        weights, core_state = lstm.weights_of(self._cell), tuple(core_state)
        if not self._packed or inputs.shape[0] == 1:
            hs, cs = lstm.loop(inputs, episode_start, core_state, weights)
            return hs, (hs[-1], cs[-1])
        cut = packing.cut(episode_start)
        before = packing.pack_state(core_state, episode_start, cut)
        outputs, after = lstm.sequences(packing.pack(inputs, cut), cut.lengths, before, weights, lstm.has_gpu())
        return packing.unpack(outputs, cut), packing.unpack_state(after, cut)

    def _inputs(self, features, last_reward, last_action) -> tf.Tensor:
        """Concatenates features, clipped reward and one-hot action to [T, B, F + 1 + num_actions]."""
        reward = tf.clip_by_value(tf.cast(last_reward, tf.float32), -1.0, 1.0)
        action = tf.one_hot(last_action, self._num_actions)
        return tf.concat([features, reward[..., tf.newaxis], action], axis=-1)


NAMES = ("none", "lstm")
KERNELS = ("auto", "loop", "packed")


def make_core(name: str, num_features: int, num_actions: int, seed: int = 0, lstm_kernel: str = "auto") -> Core:
    """Builds a core for features [T, B, num_features].

    Args:
      name: one of `NAMES`.
      num_features: F.
      num_actions: size of the one-hot last action.
      seed: seed for the initial weights.
      lstm_kernel: one of `KERNELS`; "auto" is "packed" on a GPU and "loop" elsewhere.

    Raises:
      UserError: the name is unknown.
    """
    if name == "none":
        return FeedForwardCore(num_features)
    if name == "lstm":
        return LSTMCore(num_features, num_actions, seed=seed, kernel=lstm_kernel)
    raise UserError(f"Unknown core {name!r}; choose one of {', '.join(NAMES)}.")

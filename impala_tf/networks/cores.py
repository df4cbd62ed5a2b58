"""Cores: what stands between torso and heads, and gives the agent a memory or none (IMPALA, Figure 3).

Cores compute in float32 whatever the torso computes in: they are a small part of the work, and their rounding errors
would add up over the unroll.
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
    input, forget, cell, output; one bias vector per gate), whichever way the recurrence is computed.
    """

    def __init__(
        self, num_features: int, num_actions: int, units: int = LSTM_UNITS, seed: int = 0, kernel: str = "auto"
    ):
        """`kernel`: one of `KERNELS`; see `unroll`."""
        super().__init__()
        self.output_size = units
        self.state_spec = (ArraySpec((units,), np.dtype(np.float32)),) * 2
        self._num_actions = num_actions
        self._packed = kernel == "packed" or (kernel == "auto" and lstm.has_gpu())
        self._cell = lstm.make_cell(units, num_features + 1 + num_actions, initializers.seeds(seed))

    def initial_state(self, batch_size) -> Any:
        return tuple(tf.zeros([batch_size, *spec.shape]) for spec in self.state_spec)

    def unroll(self, features, last_reward, last_action, episode_start, core_state) -> tuple[tf.Tensor, Any]:
        """As the interface says, in one of two ways.

        "loop" resets the state on its way. "packed" cuts the unrolls at the episode starts, which cuDNN's LSTM needs;
        not for XLA clusters.
        """
        inputs = self._inputs(features, last_reward, last_action)
        weights, core_state = lstm.weights_of(self._cell), tuple(core_state)
        if not self._packed or inputs.shape[0] == 1:
            hs, cs = lstm.loop(inputs, episode_start, core_state, weights)
            return hs, (hs[-1], cs[-1])
        cut = packing.cut(episode_start)
        before = packing.pack_state(core_state, episode_start, cut)
        outputs, behind = lstm.sequences(packing.pack(inputs, cut), cut.lengths, before, weights, lstm.has_gpu())
        return packing.unpack(outputs, cut), packing.unpack_state(behind, cut)

    def _inputs(self, features, last_reward, last_action) -> tf.Tensor:
        """[T, B, F + 1 + num_actions]."""
        reward = tf.clip_by_value(tf.cast(last_reward, tf.float32), -1.0, 1.0)
        action = tf.one_hot(last_action, self._num_actions)
        return tf.concat([features, reward[..., tf.newaxis], action], axis=-1)


NAMES = ("none", "lstm")
KERNELS = ("auto", "loop", "packed")


def make_core(name: str, num_features: int, num_actions: int, seed: int = 0, lstm_kernel: str = "auto") -> Core:
    """Builds the core called `name`, one of `NAMES`, for features [T, B, num_features].

    `lstm_kernel` is one of `KERNELS`: "auto" is "packed" on a GPU and "loop" elsewhere.

    Raises:
      UserError: the name is unknown.
    """
    if name == "none":
        return FeedForwardCore(num_features)
    if name == "lstm":
        return LSTMCore(num_features, num_actions, seed=seed, kernel=lstm_kernel)
    raise UserError(f"Unknown core {name!r}; choose one of {', '.join(NAMES)}.")

"""Sends stacks of frames as single frames.

Each stack repeats three frames of the one before. An unroll is sent as its first stack and the newest frame of every
later one; the learner rebuilds the same stacks, byte for byte.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from impala_tf.structures import Trajectory

_FRAMES = 4


class Frames(NamedTuple):
    """The observations of an unroll whose `EnvironmentSpec.frame_stack` is true.

    Attributes:
      first: uint8 [height, width, 4], the stack of entry 0.
      newest: uint8 [T, height, width], the last channel of entries 1 to T.
    """

    first: Any
    newest: Any


def pack(unroll: Trajectory) -> Trajectory:
    """Returns an unroll ([T + 1, ...] numpy arrays) with `Frames` as its observation."""
    stacks = unroll.observation
    # The newest frame is the highest byte of each pixel's four: a shift is faster than a strided copy.
    newest = (stacks[1:].view("<u4")[..., 0] >> 24).astype(np.uint8)
    return unroll._replace(observation=Frames(stacks[0], newest))


def packed_signature(signature: Trajectory) -> Trajectory:
    """Returns the signature of a packed unroll, given that of the unroll."""
    entries, height, width, channels = signature.observation.shape
    if channels != _FRAMES or signature.observation.dtype != tf.uint8:
        raise ValueError(f"A stack of frames must be uint8 [..., {_FRAMES}], not {signature.observation}.")
    first = tf.TensorSpec((height, width, channels), tf.uint8)
    newest = tf.TensorSpec((entries - 1, height, width), tf.uint8)
    return signature._replace(observation=Frames(first, newest))


def unpack(packed: Frames, episode_length: tf.Tensor) -> tf.Tensor:
    """Rebuilds the stacks of a batch.

    Args:
      packed: `Frames` with leading dimension [B].
      episode_length: int32 [B, T + 1]; not 0 where a new game begins, whose earlier frames are 0.

    Returns:
      uint8 [T + 1, B, height, width, 4], time-major.
    """
    stacks = tf.numpy_function(_stacks, [*packed, episode_length], tf.uint8, stateful=False)
    return tf.ensure_shape(stacks, [packed.newest.shape[1] + 1, *packed.first.shape])


def _stacks(first: np.ndarray, newest: np.ndarray, episode_length: np.ndarray) -> np.ndarray:
    batch_size, unroll_length, height, width = newest.shape
    stacks = np.empty((unroll_length + 1, batch_size, height, width, _FRAMES), np.uint8)
    stacks[0] = first
    # The four bytes of a pixel as one number, the oldest in the lowest: a shift drops it.
    pixels = stacks.view("<u4")[..., 0]
    for t in range(1, unroll_length + 1):
        np.right_shift(pixels[t - 1], 8, out=pixels[t])
        pixels[t][episode_length[:, t] > 0] = 0
        stacks[t, ..., -1] = newest[:, t - 1]
    return stacks

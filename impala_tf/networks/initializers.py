"""Weight initializers for torsos, cores and heads. The paper does not specify them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

# Standard deviation of a unit normal truncated at two standard deviations.
_TRUNCATED_STDDEV = 0.87962566


def seeds(seed: int) -> Iterator[int]:
    """Yields layer seeds, endlessly and reproducibly, so that layers of the same shape start with different weights."""
    rng = np.random.default_rng(seed)
    while True:
        yield int(rng.integers(2**31 - 1))


RELU_GAIN = 2.0**0.5  # Preserves the scale of activations through a relu.
_PIXEL_GAIN = 4.0
_MOTION_GAIN = 32.0


def orthogonal(seed: int, gain: float = 1.0) -> tf.keras.initializers.Initializer:
    """Orthogonal weights, the usual choice for actor-critics with shallow networks since OpenAI's A2C."""
    return tf.keras.initializers.Orthogonal(gain=gain, seed=seed)


class Pixels(tf.keras.initializers.Initializer):
    """Orthogonal filters with their mean removed, for the convolution that reads the pixels.

    Most of a game's image is background. Filters that respond to it produce large features that hardly depend on what
    happens in the game. The error that all frames of a batch share then dominates the gradient, norm clipping (40)
    leaves little of the rest, and the agent spends its first updates on shrinking these features. Zero-mean filters do
    not respond to a flat background at all.

    If the channels are successive frames, each filter is the sum of a static part (its mean over the frames) and a
    motion part (the remainder). Nothing that stands still excites the motion part, flat or not, so that part gets a
    larger gain. The gains compensate for contrasts that are small compared with the range of a pixel.
    """

    def __init__(self, seed: int, frame_stack: bool):
        self._filters, self._frame_stack = orthogonal(seed, RELU_GAIN), frame_stack

    def __call__(self, shape, dtype=None, **kwargs):
        """Returns filters [height, width, channels in, channels out], each with mean 0."""
        filters = self._filters(shape, dtype)
        filters -= tf.reduce_mean(filters, axis=[0, 1, 2], keepdims=True)
        if not self._frame_stack:
            return _PIXEL_GAIN * filters
        still = tf.reduce_mean(filters, axis=2, keepdims=True)
        return still + _MOTION_GAIN * (filters - still)


def fan_in(seed: int) -> tf.keras.initializers.Initializer:
    """Truncated normal with scale 1 / sqrt(fan in), the default of the Sonnet layers in the authors' scalable_agent.

    Used by the residual network, whose blocks increase the scale of the signal. Keras rescales the distribution so that
    its standard deviation holds after truncation and Sonnet does not; `scale` undoes the rescaling.
    """
    return tf.keras.initializers.VarianceScaling(
        scale=_TRUNCATED_STDDEV**2, mode="fan_in", distribution="truncated_normal", seed=seed
    )

"""Weight initialisation shared by torsos, cores and heads. The paper says nothing about it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

# Standard deviation of a unit normal that is truncated at two standard deviations.
_TRUNCATED_STDDEV = 0.87962566


def seeds(seed: int) -> Iterator[int]:
    """An endless, reproducible stream of layer seeds: layers of equal shape must not start with equal weights."""
    rng = np.random.default_rng(seed)
    while True:
        yield int(rng.integers(2**31 - 1))


RELU_GAIN = 2.0**0.5  # Keeps the scale of what passes through a relu.
_PIXEL_GAIN = 4.0
_MOTION_GAIN = 32.0


def orthogonal(seed: int, gain: float = 1.0) -> tf.keras.initializers.Initializer:
    """Orthogonal weights, as is usual for actor-critics with shallow networks since OpenAI's A2C."""
    return tf.keras.initializers.Orthogonal(gain=gain, seed=seed)


class Pixels(tf.keras.initializers.Initializer):
    """Filters without a mean, from orthogonal ones: for the convolution that sees the pixels.

    Most of a game's picture is background. A filter that answers to it makes features that are large and hardly change
    with what happens in the game. The error that all frames of a batch have in common then makes up nearly all of the
    gradient; the clip of its norm (40) leaves little of the rest, and the agent first spends its updates on shrinking
    such features. Without a mean, a flat background is silent.

    Where the channels are successive frames, a filter is the sum of one that sees what stands still (its mean over the
    frames) and one that sees what moves (the rest). Nothing that stands still, flat or not, excites the second: it is
    made larger. The gains make up for contrasts that are small beside the range of a pixel.
    """

    def __init__(self, seed: int, frame_stack: bool):
        self._filters, self._frame_stack = orthogonal(seed, RELU_GAIN), frame_stack

    def __call__(self, shape, dtype=None, **kwargs):
        """Filters [height, width, channels in, channels out], the mean of each 0."""
        filters = self._filters(shape, dtype)
        filters -= tf.reduce_mean(filters, axis=[0, 1, 2], keepdims=True)
        if not self._frame_stack:
            return _PIXEL_GAIN * filters
        still = tf.reduce_mean(filters, axis=2, keepdims=True)
        return still + _MOTION_GAIN * (filters - still)


def fan_in(seed: int) -> tf.keras.initializers.Initializer:
    """Truncated normal of scale 1 / sqrt(fan in): the default of the Sonnet layers in the authors' scalable_agent.

    For the residual network, whose blocks add to the signal's scale, and the LSTM. Keras rescales so that the standard
    deviation holds after truncation, Sonnet does not; the factor undoes it.
    """
    return tf.keras.initializers.VarianceScaling(
        scale=_TRUNCATED_STDDEV**2, mode="fan_in", distribution="truncated_normal", seed=seed
    )

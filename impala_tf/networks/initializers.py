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
POLICY_GAIN = 0.01  # A policy that starts out uniform explores.
VALUE_GAIN = 1.0


def orthogonal(seed: int, gain: float) -> tf.keras.initializers.Initializer:
    """Orthogonal weights, as is usual for actor-critics with shallow networks since OpenAI's A2C.

    Under `fan_in` the signal shrinks from layer to layer, and with it, RMSProp's epsilon being large, the steps.
    """
    return tf.keras.initializers.Orthogonal(gain=gain, seed=seed)


def fan_in(seed: int) -> tf.keras.initializers.Initializer:
    """Truncated normal of scale 1 / sqrt(fan in): the default of the Sonnet layers in the authors' scalable_agent.

    For the residual network, whose blocks add to the signal's scale, and the LSTM. Keras rescales so that the standard
    deviation holds after truncation, Sonnet does not; the factor undoes it.
    """
    return tf.keras.initializers.VarianceScaling(
        scale=_TRUNCATED_STDDEV**2, mode="fan_in", distribution="truncated_normal", seed=seed
    )

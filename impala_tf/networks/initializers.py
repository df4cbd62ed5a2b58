"""Weight initialisation shared by torsos, cores and heads."""

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


def fan_in(seed: int) -> tf.keras.initializers.Initializer:
    """Truncated normal of scale 1 / sqrt(fan in): the default of the Sonnet layers in the authors' scalable_agent.

    The paper says nothing about initialisation. Keras rescales so that the standard deviation holds after truncation,
    Sonnet does not; the factor undoes it.
    """
    return tf.keras.initializers.VarianceScaling(
        scale=_TRUNCATED_STDDEV**2, mode="fan_in", distribution="truncated_normal", seed=seed
    )

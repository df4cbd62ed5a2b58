"""Torsos: networks from observations [N, ...] to float32 features [N, F] (IMPALA, Figure 3).

N is the batch with time folded into it. All variables exist once the constructor returns. With precision "bfloat16",
only the layers' computations use bfloat16; the variables and the returned features are still float32.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from impala_tf import extensions
from impala_tf.errors import UserError
from impala_tf.networks import initializers
from impala_tf.structures import ArraySpec


class _FirstConv2D(tf.keras.layers.Conv2D):
    """First convolution of a torso; scales uint8 pixels to [0, 1] (Figure 3).

    It divides the filters by 255 instead of the pixels, which is equivalent and saves a pass over millions of pixels.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        self._scale = 1 / 255 if inputs.dtype == tf.uint8 else 1.0
        return super().call(tf.cast(inputs, self.compute_dtype))

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return super().convolution_op(inputs, kernel * self._scale)


def _orthogonal(seeds: Iterator[int]) -> tf.keras.initializers.Initializer:
    return initializers.orthogonal(next(seeds), initializers.RELU_GAIN)


def _fan_in(seeds: Iterator[int]) -> tf.keras.initializers.Initializer:
    return initializers.fan_in(next(seeds))


def _flatten(x: tf.Tensor) -> tf.Tensor:
    return tf.reshape(x, [-1, np.prod(x.shape[1:], dtype=int)])


class Torso(tf.Module):
    """Base class: maps observations [N, *spec.shape] of the spec's dtype to float32 [N, feature_size].

    A subclass sets `feature_size` and implements `add_layers` and `features`. `--torso` takes one's own, too.

    Attributes:
      feature_size: F.
      minimum_size: smallest height and width of a readable image, in pixels; None: observations of any shape can be
        read.
      layer_dtype: dtype policy for Keras layers.
      frame_stack: whether the channels of an image are successive frames; initial weights may depend on it.
    """

    feature_size: int
    minimum_size: int | None = None

    def __init__(self, spec: ArraySpec, frame_stack: bool = False, seed: int = 0, precision: str = "float32"):
        """Creates the variables.

        Args:
          spec: spec of a single observation.
          frame_stack: as in `EnvironmentSpec`.
          seed: seed for the initial weights.
          precision: dtype in which the layers compute, "float32" or "bfloat16".
        """
        super().__init__()
        self.frame_stack = frame_stack
        self.layer_dtype = "mixed_bfloat16" if precision == "bfloat16" else precision
        self.add_layers(initializers.seeds(seed))
        self(tf.zeros([1, *spec.shape], spec.dtype))  # Keras layers create their variables on the first call.

    def __call__(self, observation: tf.Tensor) -> tf.Tensor:
        return tf.cast(self.features(tf.convert_to_tensor(observation)), tf.float32)

    def add_layers(self, seeds: Iterator[int]) -> None:
        """Makes the layers, with `self.layer_dtype` and seeds from `seeds`; `features` has not been called yet."""
        raise NotImplementedError

    def features(self, x: tf.Tensor) -> tf.Tensor:
        """Computes features [N, F], in the layers' dtype, from observations [N, *spec.shape] in the spec's dtype."""
        raise NotImplementedError


class ShallowTorso(Torso):
    """Figure 3 (left): two convolutions and a fully connected layer of 256, the network of A3C (Mnih et al., 2016).

    Uses VALID padding: only then does the DMLab agent have the 1.2 million parameters stated in Figure 3's caption.
    """

    minimum_size = 20

    feature_size = 256

    def add_layers(self, seeds: Iterator[int]) -> None:
        sizes = ((16, 8, 4), (32, 4, 2))
        self._add_stack(sizes, seeds)

    def _add_stack(self, sizes: tuple[tuple[int, int, int], ...], seeds: Iterator[int]) -> None:
        """Adds convolutions of the given (channels, kernel, stride), followed by the fully connected layer."""
        weights = [self._first_weights(seeds), *(_orthogonal(seeds) for _ in sizes[1:])]
        layers = [_FirstConv2D, *(tf.keras.layers.Conv2D for _ in sizes[1:])]
        self._convs = [
            layer(*size, padding="valid", kernel_initializer=initial, dtype=self.layer_dtype)
            for layer, size, initial in zip(layers, sizes, weights)
        ]
        self._fc = tf.keras.layers.Dense(
            self.feature_size, kernel_initializer=_orthogonal(seeds), dtype=self.layer_dtype
        )

    def _first_weights(self, seeds: Iterator[int]) -> tf.keras.initializers.Initializer:
        return initializers.Pixels(next(seeds), self.frame_stack)

    def features(self, x: tf.Tensor) -> tf.Tensor:
        for conv in self._convs:
            x = tf.nn.relu(conv(x))
        return tf.nn.relu(self._fc(_flatten(x)))


class SmallTorso(ShallowTorso):
    """One 3 x 3 convolution and a fully connected layer of 128: the network of MinAtar (Young and Tian, 2019).

    For grids in which a pixel is a cell. Not in the paper.
    """

    minimum_size = 3

    feature_size = 128

    def add_layers(self, seeds: Iterator[int]) -> None:
        self._add_stack(((16, 3, 1),), seeds)

    def _first_weights(self, seeds: Iterator[int]) -> tf.keras.initializers.Initializer:
        return _orthogonal(seeds)


class Shallow3ConvTorso(ShallowTorso):
    """Nature DQN's three convolutions with a fully connected layer of 512: the other reading of section 5.3.2.

    The paper describes its shallow Atari network as having "three convolutional layers" and as equivalent to A3C's,
    which has two. It gives no sizes.
    """

    minimum_size = 36

    feature_size = 512

    def add_layers(self, seeds: Iterator[int]) -> None:
        sizes = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
        self._add_stack(sizes, seeds)


class _ResidualBlock(tf.Module):
    """relu, 3x3 convolution, relu, 3x3 convolution, and a skip connection from the input."""

    def __init__(self, channels: int, seeds: Iterator[int], dtype: str):
        super().__init__()
        self._convs = [
            tf.keras.layers.Conv2D(channels, 3, padding="same", kernel_initializer=_fan_in(seeds), dtype=dtype)
            for _ in range(2)
        ]

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        y = x
        for conv in self._convs:
            y = conv(tf.nn.relu(y))
        return x + y


class _Section(tf.Module):
    """3x3 convolution, 3x3 max pooling with stride 2, and two residual blocks."""

    def __init__(self, conv: type[tf.keras.layers.Conv2D], channels: int, seeds: Iterator[int], dtype: str):
        super().__init__()
        self._conv = conv(channels, 3, padding="same", kernel_initializer=_fan_in(seeds), dtype=dtype)
        self._blocks = [_ResidualBlock(channels, seeds, dtype) for _ in range(2)]

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        x = tf.nn.max_pool2d(self._conv(x), ksize=3, strides=2, padding="SAME")
        for block in self._blocks:
            x = block(x)
        return x


class DeepTorso(Torso):
    """Figure 3 (right): 15 convolutions in three residual sections, relu, fully connected 256, relu; SAME padding."""

    feature_size = 256
    minimum_size = 1

    def add_layers(self, seeds: Iterator[int]) -> None:
        sections = ((_FirstConv2D, 16), (tf.keras.layers.Conv2D, 32), (tf.keras.layers.Conv2D, 32))
        self._sections = [_Section(conv, channels, seeds, self.layer_dtype) for conv, channels in sections]
        self._fc = tf.keras.layers.Dense(self.feature_size, kernel_initializer=_fan_in(seeds), dtype=self.layer_dtype)

    def features(self, x: tf.Tensor) -> tf.Tensor:
        for section in self._sections:
            x = section(x)
        return tf.nn.relu(self._fc(_flatten(tf.nn.relu(x))))


class MLPTorso(Torso):
    """Two relu layers of 64 units for vectors and small images of any shape, flattened. Not in the paper."""

    feature_size = 64

    def add_layers(self, seeds: Iterator[int]) -> None:
        self._layers = [
            tf.keras.layers.Dense(self.feature_size, kernel_initializer=_orthogonal(seeds), dtype=self.layer_dtype)
            for _ in range(2)
        ]

    def features(self, x: tf.Tensor) -> tf.Tensor:
        x = tf.cast(_flatten(x), tf.float32) * (1 / 255 if x.dtype == tf.uint8 else 1.0)
        for layer in self._layers:
            x = tf.nn.relu(layer(x))
        return x


_TORSOS = {
    "shallow": ShallowTorso,
    "shallow_3conv": Shallow3ConvTorso,
    "deep": DeepTorso,
    "small": SmallTorso,
    "mlp": MLPTorso,
}
NAMES = ("auto", *_TORSOS)

# Smaller images (gridworlds, catch) do not suit 8x8 filters with stride 4.
_AUTO_IMAGE_SIZE = 36


def make_torso(
    name: str, observation_spec: ArraySpec, frame_stack: bool = False, seed: int = 0, precision: str = "float32"
) -> Torso:
    """Builds a torso.

    Args:
      name: one of `NAMES`, or a user's own subclass of `Torso` as module:attribute. "auto" is "shallow" for images of
        at least 36 x 36 pixels, and "mlp" for everything else.
      observation_spec: spec of a single observation.
      frame_stack: as in `EnvironmentSpec`.
      seed: seed for the initial weights.
      precision: dtype in which the torso computes, "float32" or "bfloat16".

    Raises:
      UserError: there is no such torso, or it cannot read these observations.
    """
    if name not in NAMES and not extensions.is_name(name):
        raise UserError(f"Unknown torso {name!r}; choose one of {', '.join(NAMES)}, or {extensions.FORM}.")
    if not isinstance(observation_spec, ArraySpec):
        kind = type(observation_spec).__name__
        raise UserError(
            "An observation must be one array (an image [height, width, channels] or a vector), or "
            f"{{'image': array, 'instruction': text}}, not {kind}."
        )
    shape, dtype = observation_spec
    if np.dtype(dtype).kind not in "biuf":
        raise UserError(f"Observations must be numeric (integer, floating point or bool), not {np.dtype(dtype)}.")
    is_image = len(shape) == 3
    if name == "auto":
        name = "shallow" if is_image and min(shape[:2]) >= _AUTO_IMAGE_SIZE else "mlp"
    torso = _TORSOS[name] if name in _TORSOS else extensions.load_class("torso", name, Torso)
    if (size := torso.minimum_size) is not None and not (is_image and min(shape[:2]) >= size):
        raise UserError(
            f"Torso {name!r} needs images [height, width, channels] of at least {size} x {size} pixels, not "
            f"observations of shape {list(shape)}; use --torso=mlp or --torso=auto."
        )
    return torso(observation_spec, frame_stack, seed, precision)

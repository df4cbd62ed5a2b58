from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from impala_tf.errors import UserError
from impala_tf.networks.torsos import DeepTorso, MLPTorso, Shallow3ConvTorso, ShallowTorso, SmallTorso, make_torso
from impala_tf.structures import ArraySpec


def image_spec(*shape, dtype=np.uint8):
    return ArraySpec(shape, np.dtype(dtype))


def random_images(spec, n=2, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *spec.shape), dtype=np.uint8)


def parameters(module):
    return sum(int(np.prod(v.shape)) for v in module.trainable_variables)


@pytest.mark.parametrize(
    "name, features, expected",
    [
        # Kernels and biases; the last term is (flattened + 1) x units. VALID: 84 -> 20 -> 9 (-> 7). SAME with stride 2:
        # 84 -> 42 -> 21 -> 11.
        ("shallow", 256, (8 * 8 * 4 + 1) * 16 + (4 * 4 * 16 + 1) * 32 + (9 * 9 * 32 + 1) * 256),
        (
            "shallow_3conv",
            512,
            (8 * 8 * 4 + 1) * 32 + (4 * 4 * 32 + 1) * 64 + (3 * 3 * 64 + 1) * 64 + (7 * 7 * 64 + 1) * 512,
        ),
        (
            "deep",
            256,
            (9 * 4 + 1) * 16 + (9 * 16 + 1) * (4 * 16 + 32) + (9 * 32 + 1) * (9 * 32) + (11 * 11 * 32 + 1) * 256,
        ),
    ],
)
def test_atari_features_and_parameters(name, features, expected):
    spec = image_spec(84, 84, 4)
    torso = make_torso(name, spec)
    assert torso.feature_size == features
    assert parameters(torso) == expected
    output = torso(random_images(spec))
    assert (output.shape, output.dtype) == ((2, features), tf.float32)
    assert np.min(output) == 0.0 < np.std(output)  # Relu outputs, not all dead.


@pytest.mark.parametrize("name", ["shallow", "shallow_3conv"])
def test_initial_filters_respond_little_to_still_images(name):
    """They ignore a flat image and, with a frame stack, respond far less to static content than to motion."""
    spec = image_spec(84, 84, 4)
    rng = np.random.default_rng(0)
    moving = rng.random((1, 84, 84, 4), np.float32)
    still = np.repeat(moving[..., :1], 4, axis=-1)
    flat = np.ones_like(still)

    def response(frame_stack, picture):
        kernel = make_torso(name, spec, frame_stack=frame_stack, seed=3).trainable_variables[0]
        return np.std(tf.nn.conv2d(picture, kernel, 4, "VALID"))

    for frame_stack in (False, True):
        assert response(frame_stack, flat) < 1e-4 < response(frame_stack, still)
    assert response(True, moving) > 10 * response(True, still)
    assert response(False, moving) < 2 * response(False, still)


def conv(x, layer, stride, padding):
    kernel, bias = layer
    return tf.nn.conv2d(x, kernel, stride, padding) + bias


def layers_by_shape(module):
    """Maps kernel shapes to (kernel, bias); for torsos whose layers all have different kernel shapes."""
    variables = module.trainable_variables
    return {tuple(kernel.shape): (kernel, bias) for kernel, bias in zip(variables[::2], variables[1::2])}


def test_shallow_is_the_left_network_of_figure_3():
    spec = image_spec(72, 96, 3)
    torso, images = make_torso("shallow", spec, seed=3), random_images(spec)
    layers = layers_by_shape(torso)
    x = images.astype(np.float32) / 255.0
    x = tf.nn.relu(conv(x, layers[(8, 8, 3, 16)], 4, "VALID"))
    x = tf.nn.relu(conv(x, layers[(4, 4, 16, 32)], 2, "VALID"))
    kernel, bias = layers[(2240, 256)]  # 7 x 10 x 32 flattened.
    x = tf.nn.relu(tf.reshape(x, [2, -1]) @ kernel + bias)
    np.testing.assert_allclose(torso(images), x, atol=1e-5)


def test_deep_is_the_right_network_of_figure_3():
    spec = image_spec(24, 16, 3)
    torso, images = DeepTorso(spec, seed=3), random_images(spec)

    def layer(keras_layer):
        return keras_layer.kernel, keras_layer.bias

    x = images.astype(np.float32) / 255.0
    for section in torso._sections:
        x = conv(x, layer(section._conv), 1, "SAME")
        x = tf.nn.max_pool2d(x, 3, 2, "SAME")
        for block in section._blocks:
            first, second = block._convs
            y = conv(tf.nn.relu(x), layer(first), 1, "SAME")
            x = x + conv(tf.nn.relu(y), layer(second), 1, "SAME")
    x = tf.reshape(tf.nn.relu(x), [2, -1])
    np.testing.assert_allclose(torso(images), tf.nn.relu(x @ torso._fc.kernel + torso._fc.bias), atol=1e-5)
    assert [section._conv.filters for section in torso._sections] == [16, 32, 32]


@pytest.mark.parametrize("dtype, scale", [(np.uint8, 255.0), (np.float32, 1.0), (bool, 1.0)])
def test_small_is_minatars_network(dtype, scale):
    """Computed with NumPy, patch by patch."""
    spec = image_spec(10, 10, 7, dtype=dtype)
    torso = make_torso("small", spec, seed=3)
    assert torso.feature_size == 128
    assert parameters(torso) == (3 * 3 * 7 + 1) * 16 + (8 * 8 * 16 + 1) * 128
    images = (random_images(spec) if scale == 255 else random_images(spec) % 2).astype(dtype)
    for bias in torso.trainable_variables[1::2]:  # They start at zero.
        bias.assign(np.linspace(-0.1, 0.1, bias.shape[0]))
    kernel, bias, weights, offsets = (variable.numpy() for variable in torso.trainable_variables)
    x = images.astype(np.float64) / scale
    expected = np.zeros((2, 8, 8, 16))
    for i in range(8):
        for j in range(8):
            expected[:, i, j] = np.maximum(x[:, i : i + 3, j : j + 3].reshape(2, -1) @ kernel.reshape(-1, 16) + bias, 0)
    expected = np.maximum(expected.reshape(2, -1) @ weights + offsets, 0)
    assert expected.min() == 0 < expected.max()
    np.testing.assert_allclose(torso(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype, scale", [(np.uint8, 255.0), (np.float32, 1.0), (np.int64, 1.0), (bool, 1.0)])
def test_mlp_reads_any_shape_and_scales_pixels_only(dtype, scale):
    spec = ArraySpec((3, 2), np.dtype(dtype))
    torso = make_torso("mlp", spec)
    observation = np.random.default_rng(0).integers(0, 2, (4, 3, 2)).astype(dtype)
    x = observation.reshape(4, 6).astype(np.float32) / scale
    for layer in torso._layers:
        x = tf.nn.relu(x @ layer.kernel + layer.bias)
    np.testing.assert_allclose(torso(observation), x, atol=1e-6)
    assert parameters(torso) == 7 * 64 + 65 * 64


@pytest.mark.parametrize(
    "spec, torso",
    [
        (image_spec(84, 84, 4), ShallowTorso),
        (image_spec(36, 36, 1), ShallowTorso),
        (image_spec(35, 80, 3), MLPTorso),
        (image_spec(10, 5, 1), MLPTorso),
        (ArraySpec((4,), np.dtype(np.float32)), MLPTorso),
        (ArraySpec((), np.dtype(np.float32)), MLPTorso),
    ],
)
def test_auto(spec, torso):
    made = make_torso("auto", spec)
    assert type(made) is torso
    assert made(np.zeros([2, *spec.shape], spec.dtype)).shape == (2, made.feature_size)


@pytest.mark.parametrize("torso", [ShallowTorso, Shallow3ConvTorso, DeepTorso, SmallTorso])
def test_smallest_image(torso):
    size = torso.minimum_size
    assert torso(image_spec(size, size, 1))(np.zeros([1, size, size, 1], np.uint8)).shape[0] == 1


@pytest.mark.parametrize(
    "name, spec, message",
    [
        ("resnet", image_spec(84, 84, 4), "Unknown torso 'resnet'; choose one of auto, shallow,"),
        ("shallow", image_spec(84, 19, 4), r"at least 20 x 20 pixels, not observations of shape \[84, 19, 4\]"),
        ("shallow_3conv", image_spec(35, 84, 4), "at least 36 x 36"),
        ("small", image_spec(10, 2, 4), r"at least 3 x 3 pixels, not observations of shape \[10, 2, 4\]"),
        ("small", ArraySpec((10, 10), np.dtype(bool)), r"not observations of shape \[10, 10\]; use --torso=mlp"),
        ("deep", ArraySpec((4,), np.dtype(np.float32)), r"not observations of shape \[4\]; use --torso=mlp"),
        ("auto", {"image": image_spec(84, 84, 4)}, r"one array \(.* not dict"),
        ("auto", ArraySpec((3,), np.dtype("U5")), "must be numeric"),
    ],
)
def test_user_errors(name, spec, message):
    with pytest.raises(UserError, match=message):
        make_torso(name, spec)


@pytest.mark.parametrize("name", ["shallow", "shallow_3conv", "deep", "small", "mlp"])
def test_seed_determines_the_weights(name):
    def weights(seed):
        return [v.numpy() for v in make_torso(name, image_spec(40, 40, 1), seed=seed).trainable_variables]

    for a, b, c in zip(weights(1), weights(1), weights(2)):
        np.testing.assert_array_equal(a, b)
        assert a.ndim == 1 or not np.allclose(a, c)  # Biases start at zero.


def test_layers_of_equal_shape_start_differently():
    kernels = [v.numpy() for v in DeepTorso(image_spec(8, 8, 1)).trainable_variables if v.shape == (3, 3, 32, 32)]
    assert len(kernels) == 9
    assert len({kernel.tobytes() for kernel in kernels}) == 9
    for kernel in kernels:  # Scale 1 / sqrt(fan in), truncated at two standard deviations.
        assert np.std(kernel) * np.sqrt(9 * 32) == pytest.approx(0.88, abs=0.02)
        assert np.abs(kernel).max() * np.sqrt(9 * 32) <= 2.001


@pytest.mark.parametrize("name", ["shallow", "shallow_3conv"])
def test_initial_features_ignore_a_flat_background_but_not_a_ball(name):
    spec = ArraySpec((84, 84, 4), np.dtype(np.uint8))
    torso = make_torso(name, spec, seed=1)
    picture = np.full((2, 84, 84, 4), 87, np.uint8)
    picture[1, 40:44, 40:42, 3] = 236
    flat, ball = torso(picture).numpy()
    assert np.abs(flat).max() < 1e-4
    assert np.abs(ball).max() > 1e-2

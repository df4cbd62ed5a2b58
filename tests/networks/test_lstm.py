"""Tests the LSTM's cuDNN path; test_cores.py tests the loop."""

import numpy as np
import pytest
import tensorflow as tf

from impala_tf.networks import lstm
from impala_tf.networks.cores import LSTMCore

F, D, N, LENGTH = 3, 4, 5, 6


def random_weights(seed=0):
    rng = np.random.default_rng(seed)
    return lstm.Weights(*(tf.Variable(rng.normal(size=s), dtype=tf.float32) for s in ((F, 4 * D), (D, 4 * D), (4 * D))))


def test_cudnn_parameters_give_the_same_recurrence():
    """Computes one step as in cuDNN's documentation: i, f, c', o from W x + R h + b_W + b_R."""
    weights, rng = random_weights(), np.random.default_rng(1)
    flat = lstm.cudnn_parameters(weights).numpy()
    w, r, biases = np.split(flat, [4 * D * F, 4 * D * (F + D)])
    w, r, (b_w, b_r) = w.reshape(4, D, F), r.reshape(4, D, D), biases.reshape(2, 4, D)
    x, h, c = rng.normal(size=F), rng.normal(size=D), rng.normal(size=D)
    i, f, new, o = (w[k] @ x + r[k] @ h + b_w[k] + b_r[k] for k in range(4))
    sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    c_1 = sigmoid(f) * c + sigmoid(i) * np.tanh(new)
    arguments = (np.float32(a)[None] for a in (h, c))
    hs, cs = lstm.loop(tf.constant(x[None, None], tf.float32), None, tuple(arguments), weights)
    np.testing.assert_allclose(cs[0, 0], c_1, atol=1e-5)
    np.testing.assert_allclose(hs[0, 0], sigmoid(o) * np.tanh(c_1), atol=1e-5)


def test_graph_with_cudnn_and_its_gradient_can_be_built():
    """Building the graph checks the ops' arguments and shapes even without a GPU."""
    weights = random_weights()

    @tf.function
    def gradients(inputs, lengths, h, c):
        with tf.GradientTape() as tape:
            tape.watch([inputs, h, c])
            outputs, state = lstm.sequences(inputs, lengths, (h, c), weights, cudnn=True)
        return outputs, *state, *tape.gradient([outputs, *state], [inputs, h, c, *weights])

    shapes = ((LENGTH, N, F), (N,), (N, D), (N, D))
    specs = [tf.TensorSpec(s, tf.int32 if s == (N,) else tf.float32) for s in shapes]
    graph = gradients.get_concrete_function(*specs)
    assert [tuple(x.shape) for x in graph.outputs[:3]] == [(LENGTH, N, D), (N, D), (N, D)]
    assert all(x is not None for x in graph.structured_outputs)


@pytest.mark.skipif(not lstm.has_gpu(), reason="no GPU")
@pytest.mark.parametrize("p_start", [0.0, 0.2, 1.0])
def test_cudnn_equals_the_loop(p_start):
    tf.config.experimental.enable_tensor_float_32_execution(False)
    rng, (num_steps, batch_size) = np.random.default_rng(2), (11, 6)
    features = tf.constant(rng.normal(size=(num_steps, batch_size, F)), tf.float32)
    others = (tf.zeros([num_steps, batch_size]), tf.zeros([num_steps, batch_size], tf.int32))
    episode_start = tf.constant(rng.random((num_steps, batch_size)) < p_start)
    state = tuple(tf.constant(rng.normal(size=(batch_size, D)), tf.float32) for _ in range(2))
    results = []
    for kernel in ("loop", "packed"):
        core = LSTMCore(F, 2, units=D, seed=3, kernel=kernel)
        with tf.GradientTape() as tape:
            tape.watch([features, state])
            outputs, final = core.unroll(features, *others, episode_start, state)
            loss = tf.reduce_sum(tf.sin(outputs)) + tf.reduce_sum(tf.square(final[1])) + tf.reduce_sum(final[0])
        results.append([outputs, *final, *tape.gradient(loss, [features, *state, *core.trainable_variables])])
    for ours, expected in zip(*results):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)

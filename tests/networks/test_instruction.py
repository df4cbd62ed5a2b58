"""Compares the instruction encoder with Keras's cell, run text by text and word by word."""

import numpy as np
import pytest
import tensorflow as tf

from impala_tf.environments.instructions import MAX_WORDS, encode
from impala_tf.networks.instruction import InstructionEncoder

TEXTS = ["go to the red ball", "", "red", "go to the red ball", " ".join(map(str, range(MAX_WORDS))), "to go", ""]


@pytest.fixture(scope="module")
def encoder():
    return InstructionEncoder(seed=3)


def keras_encode(encoder, texts):
    """Reference implementation: one text and one word at a time."""
    rows = []
    for text in texts:
        state, output = [tf.zeros([1, 64])] * 2, tf.zeros([1, 64])
        for word in encode(text)[: len(text.split())]:
            output, state = encoder._cell(encoder._embedding[word][tf.newaxis], state)
        rows.append(output[0])
    return tf.stack(rows)


def output_and_gradients(encode_all, variables):
    with tf.GradientTape() as tape:
        output = encode_all()
        weight = tf.reshape(tf.range(tf.size(output), dtype=tf.float32), output.shape) % 7 - 3
        loss = tf.reduce_sum(weight * output)
    return [output, *(tf.convert_to_tensor(g) for g in tape.gradient(loss, variables))]


@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:3], ["red"]])
def test_equals_keras_cell_word_by_word(encoder, texts):
    words = tf.constant(np.stack([encode(text) for text in texts]))
    ours = tf.function(lambda: output_and_gradients(lambda: encoder(words), encoder.trainable_variables))()
    expected = output_and_gradients(lambda: keras_encode(encoder, texts), encoder.trainable_variables)
    assert (ours[0].shape, ours[0].dtype) == ((len(texts), 64), tf.float32)
    for a, b in zip(ours, expected):
        np.testing.assert_allclose(a, b, atol=3e-5)


def test_empty_texts_are_encoded_as_zeros(encoder):
    output = encoder(tf.constant(np.stack([encode(""), encode("  ")])))
    np.testing.assert_array_equal(output, np.zeros((2, 64)))


def test_encoding_depends_on_the_words_and_their_order(encoder):
    output = encoder(tf.constant(np.stack([encode(text) for text in ("red ball", "ball red", "red")]))).numpy()
    assert np.abs(output[0] - output[1]).max() > 0.01
    assert np.abs(output[0] - output[2]).max() > 0.01


def test_seed_determines_the_weights():
    first, second, other = (InstructionEncoder(seed=seed).trainable_variables for seed in (1, 1, 2))
    assert [tuple(v.shape) for v in first] == [(1000, 20), (20, 256), (64, 256), (256,)]
    for a, b, c in zip(first, second, other):
        np.testing.assert_array_equal(a, b)
        assert a.shape.rank == 1 or not np.allclose(a, c)

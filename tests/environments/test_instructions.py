"""Instructions as hash buckets."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from impala_tf.environments import instructions
from impala_tf.environments.instructions import HASH_BUCKETS, MAX_WORDS, NO_WORD, encode


def test_known_buckets():
    # Pinned: a trained agent must read the same words in every later version.
    np.testing.assert_array_equal(encode("go to the red ball")[:6], [774, 756, 78, 455, 379, NO_WORD])


@given(st.text())
def test_every_text_becomes_words_and_padding(text):
    buckets, words = encode(text), text.split()
    assert (buckets.shape, buckets.dtype) == instructions.SPEC
    count = min(len(words), MAX_WORDS)
    assert ((buckets[:count] >= 0) & (buckets[:count] < HASH_BUCKETS)).all()
    assert (buckets[count:] == NO_WORD).all()


@given(st.lists(st.sampled_from(["red", "ball", "go", "to"]), max_size=10))
def test_a_word_has_one_bucket_wherever_it_stands_and_whitespace_says_nothing(words):
    np.testing.assert_array_equal(encode(" ".join(words)), encode("\n\t" + "   ".join(words) + " "))
    assert [int(encode(word)[0]) for word in words] == list(encode(" ".join(words))[: len(words)])

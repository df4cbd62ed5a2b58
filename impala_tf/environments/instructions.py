"""Encodes instructions in words as arrays, part of the observation (Figure 3: "blue ladder" -> embedding -> LSTM)."""

from __future__ import annotations

import zlib

import numpy as np

from impala_tf.structures import ArraySpec

# As in the authors' scalable_agent, Agent._instruction; the paper does not give the number.
HASH_BUCKETS = 1000

# Padding after the last word.
NO_WORD = -1

# Further words are dropped.
MAX_WORDS = 64

SPEC = ArraySpec((MAX_WORDS,), np.dtype(np.int32))


def encode(text: str) -> np.ndarray:
    """Returns int32 [MAX_WORDS]: the hash bucket of each word of `text`, split at whitespace, then `NO_WORD`.

    The result is the same in every process and on every machine.
    """
    words = [zlib.crc32(word.encode()) % HASH_BUCKETS for word in text.split()[:MAX_WORDS]]
    return np.array(words + [NO_WORD] * (MAX_WORDS - len(words)), np.int32)

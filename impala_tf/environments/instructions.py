"""Instructions in words, as arrays that travel with the observation (Figure 3: "blue ladder" -> embedding -> LSTM)."""

from __future__ import annotations

import zlib

import numpy as np

from impala_tf.structures import ArraySpec

# From the authors' scalable_agent, Agent._instruction; the paper gives no number of buckets.
HASH_BUCKETS = 1000

# Behind the last word.
NO_WORD = -1

# Words beyond these are not seen.
MAX_WORDS = 64

SPEC = ArraySpec((MAX_WORDS,), np.dtype(np.int32))


def encode(text: str) -> np.ndarray:
    """int32 [MAX_WORDS]: the hash bucket of each word of `text`, split at whitespace, then `NO_WORD`.

    The same in every process and on every machine.
    """
    words = [zlib.crc32(word.encode()) % HASH_BUCKETS for word in text.split()[:MAX_WORDS]]
    return np.array(words + [NO_WORD] * (MAX_WORDS - len(words)), np.int32)

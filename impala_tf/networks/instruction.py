"""The instruction encoder: words to a vector (IMPALA, Figure 3: "blue ladder" -> embedding 20 -> LSTM 64)."""

from __future__ import annotations

import tensorflow as tf

from impala_tf.environments.instructions import HASH_BUCKETS, NO_WORD
from impala_tf.networks import initializers, lstm

EMBEDDING_SIZE = 20  # Figure 3.
UNITS = 64  # Figure 3.


class InstructionEncoder(tf.Module):
    """Embedding and LSTM over the words; float32. Every variable exists once the constructor returns."""

    output_size = UNITS

    def __init__(self, seed: int = 0, cudnn: bool = False):
        """`cudnn`: whether the LSTM is cuDNN's, which needs a GPU."""
        super().__init__()
        self._cudnn = cudnn
        seeds = initializers.seeds(seed)
        # Of a standard deviation of 1, as Sonnet's in the authors' scalable_agent.
        embedding = tf.keras.initializers.RandomNormal(stddev=1.0, seed=next(seeds))
        self._embedding = tf.Variable(embedding([HASH_BUCKETS, EMBEDDING_SIZE]), name="embedding")
        self._cell = lstm.make_cell(UNITS, EMBEDDING_SIZE, seeds)

    def __call__(self, instruction: tf.Tensor) -> tf.Tensor:
        """The LSTM's output behind the last word, float32 [N, 64]; 0 for a text without words, as in scalable_agent.

        Shapes depend on the data: not for XLA clusters.

        Args:
          instruction: int32 [N, MAX_WORDS], as `instructions.encode` makes them.
        """
        # An instruction stays for an episode, and there are few of them: each is read once. On the CPU, as in
        # `packing.cut`.
        with tf.device("CPU"):
            texts, which = tf.raw_ops.UniqueV2(x=instruction, axis=[0])
            lengths = tf.reduce_sum(tf.cast(texts != NO_WORD, tf.int32), axis=1)
            # One step further than the longest of them goes: see `lstm.sequences`. What is no word reads as any other.
            longest = tf.maximum(tf.reduce_max(lengths), 1)
            words = tf.transpose(tf.maximum(tf.pad(texts, [[0, 0], [0, 1]])[:, : longest + 1], 0))
        state = (tf.zeros([tf.size(lengths), UNITS]),) * 2
        weights = lstm.weights_of(self._cell)
        embedded = tf.gather(self._embedding, words)
        # Sequences of length 0 are nothing for cuDNN.
        _, (output, _) = lstm.sequences(embedded, tf.maximum(lengths, 1), state, weights, self._cudnn)
        return tf.gather(tf.where(lengths[:, tf.newaxis] > 0, output, 0.0), which)

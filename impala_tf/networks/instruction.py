"""Encodes an instruction as a vector (IMPALA, Figure 3: "blue ladder" -> embedding 20 -> LSTM 64)."""

from __future__ import annotations

import tensorflow as tf

from impala_tf.environments.instructions import HASH_BUCKETS, NO_WORD
from impala_tf.networks import initializers, lstm

EMBEDDING_SIZE = 20  # Figure 3.
UNITS = 64  # Figure 3.


class InstructionEncoder(tf.Module):
    """An embedding and an LSTM over the words, in float32. All variables exist once the constructor returns."""

    output_size = UNITS

    def __init__(self, seed: int = 0, cudnn: bool = False):
        """Creates the variables; `cudnn` selects cuDNN's LSTM, which needs a GPU."""
        super().__init__()
        self._cudnn = cudnn
        seeds = initializers.seeds(seed)
        # Standard deviation 1, the default of Sonnet's embedding in the authors' scalable_agent.
        embedding = tf.keras.initializers.RandomNormal(stddev=1.0, seed=next(seeds))
        self._embedding = tf.Variable(embedding([HASH_BUCKETS, EMBEDDING_SIZE]), name="embedding")
        self._cell = lstm.make_cell(UNITS, EMBEDDING_SIZE, seeds)

    def __call__(self, instruction: tf.Tensor) -> tf.Tensor:
        """Returns the LSTM's output after the last word, float32 [N, 64]; 0 for an empty text, as in scalable_agent.

        Does not compile with XLA, because shapes depend on the data.

        Args:
          instruction: int32 [N, MAX_WORDS], from `instructions.encode`.
        """
        # An instruction is constant over an episode, so a batch has few distinct ones: encode each of them once. This
        # part runs on the CPU, for the reasons given in `packing.cut`.
        with tf.device("CPU"):
            texts, which = tf.raw_ops.UniqueV2(x=instruction, axis=[0])
            lengths = tf.reduce_sum(tf.cast(texts != NO_WORD, tf.int32), axis=1)
            # One step longer than the longest text, as `lstm.sequences` requires. Padding reads as word 0, which has
            # no effect.
            longest = tf.maximum(tf.reduce_max(lengths), 1)
            words = tf.transpose(tf.maximum(tf.pad(texts, [[0, 0], [0, 1]])[:, : longest + 1], 0))
        state = (tf.zeros([tf.size(lengths), UNITS]),) * 2
        weights = lstm.weights_of(self._cell)
        embedded = tf.gather(self._embedding, words)
        # cuDNN does not accept sequences of length 0.
        _, (output, _) = lstm.sequences(embedded, tf.maximum(lengths, 1), state, weights, self._cudnn)
        return tf.gather(tf.where(lengths[:, tf.newaxis] > 0, output, 0.0), which)

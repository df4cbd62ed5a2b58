"""Cuts unrolls at episode starts into segments of different lengths, and reassembles them.

An LSTM that cannot reset its state within a sequence, such as cuDNN's, processes the segments as its batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf


class Cut(NamedTuple):
    """A division of unrolls [T, B] into N segments. All fields are int32.

    Attributes:
      lengths: [N], length of each segment, at least 1. Segments are ordered by unroll, then by time.
      position: [T, B], index of each entry in the flattened packed segments [T + 1, N].
      first: [B], index of each unroll's first segment.
      last: [B], index of each unroll's last segment.
    """

    lengths: tf.Tensor
    position: tf.Tensor
    first: tf.Tensor
    last: tf.Tensor


def cut(episode_start: tf.Tensor) -> Cut:
    """Cuts unrolls before every entry where `episode_start`, bool [T, B], is true.

    Does not compile with XLA, because N depends on the data.
    """
    # On the CPU: it is faster for small tensors, and both the shapes and cuDNN's sequence lengths are needed there.
    with tf.device("CPU"):
        num_steps, batch_size = tf.unstack(tf.shape(episode_start))
        # Concatenate the unrolls into one line, [B * T], so that every segment is a contiguous piece of it.
        starts = tf.reshape(tf.transpose(tf.concat([tf.ones_like(episode_start[:1]), episode_start[1:]], axis=0)), [-1])
        start = tf.cast(tf.where(starts)[:, 0], tf.int32)
        lengths = tf.concat([start[1:], [batch_size * num_steps]], axis=0) - start
        segment = tf.cumsum(tf.cast(starts, tf.int32)) - 1
        step = tf.range(batch_size * num_steps) - tf.gather(start, segment)
        position = tf.transpose(tf.reshape(step * tf.size(lengths) + segment, [batch_size, num_steps]))
        segment = tf.reshape(segment, [batch_size, num_steps])
        return Cut(lengths, position, segment[:, 0], segment[:, -1])


def pack(x: tf.Tensor, cut: Cut) -> tf.Tensor:
    """Packs entries [T, B, F] into segments [T + 1, N, F], padded with 0.

    T + 1 is one step more than the longest possible segment; see `lstm.sequences`.
    """
    length, number, size = tf.shape(x)[0] + 1, tf.size(cut.lengths), x.shape[-1]
    rows = tf.scatter_nd(tf.reshape(cut.position, [-1, 1]), tf.reshape(x, [-1, size]), [length * number, size])
    return tf.reshape(rows, [length, number, size])


def unpack(x: tf.Tensor, cut: Cut) -> tf.Tensor:
    """Unpacks segments [T + 1, N, D] into entries [T, B, D]; the inverse of `pack`."""
    return tf.gather(tf.reshape(x, [-1, x.shape[-1]]), cut.position)


def pack_state(state: Any, episode_start: tf.Tensor, cut: Cut) -> Any:
    """Maps states [B, D] before each unroll to states [N, D] before each segment, which are 0 at an episode start.

    Args:
      state: nest of float32 [B, D].
      episode_start: bool [T, B], as given to `cut`; row 0 marks unrolls that begin with a new episode.
      cut: the division into segments.
    """

    def scatter(x: tf.Tensor) -> tf.Tensor:
        kept = tf.where(episode_start[0][:, tf.newaxis], 0.0, x)
        return tf.scatter_nd(cut.first[:, tf.newaxis], kept, [tf.size(cut.lengths), x.shape[-1]])

    return tf.nest.map_structure(scatter, state)


def unpack_state(state: Any, cut: Cut) -> Any:
    """Maps states [N, D] after each segment to states [B, D] after each unroll."""
    return tf.nest.map_structure(lambda x: tf.gather(x, cut.last), state)

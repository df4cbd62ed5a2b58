"""Unrolls cut at episode starts into sequences of different lengths, and put together again.

An LSTM that cannot be reset on its way, as cuDNN's, takes the pieces as a batch of its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf


class Cut(NamedTuple):
    """How unrolls [T, B] fall into N segments. All int32.

    Attributes:
      lengths: [N], of the segments, 1 or more; unroll by unroll, and in each by time.
      position: [T, B], where an entry stands in the packed segments [T + 1, N], flattened.
      first: [B], the number of each unroll's first segment.
      last: [B], that of its last.
    """

    lengths: tf.Tensor
    position: tf.Tensor
    first: tf.Tensor
    last: tf.Tensor


def cut(episode_start: tf.Tensor) -> Cut:
    """Cuts before every entry where `episode_start`, bool [T, B], is true.

    N depends on the data: not for XLA clusters.
    """
    # On the CPU, where such small things are done faster, where the shapes are needed, and cuDNN the lengths.
    with tf.device("CPU"):
        num_steps, batch_size = tf.unstack(tf.shape(episode_start))
        # Laid end to end, the unrolls are one line, [B * T], and the segments pieces of it.
        starts = tf.reshape(tf.transpose(tf.concat([tf.ones_like(episode_start[:1]), episode_start[1:]], axis=0)), [-1])
        start = tf.cast(tf.where(starts)[:, 0], tf.int32)
        lengths = tf.concat([start[1:], [batch_size * num_steps]], axis=0) - start
        segment = tf.cumsum(tf.cast(starts, tf.int32)) - 1
        step = tf.range(batch_size * num_steps) - tf.gather(start, segment)
        position = tf.transpose(tf.reshape(step * tf.size(lengths) + segment, [batch_size, num_steps]))
        segment = tf.reshape(segment, [batch_size, num_steps])
        return Cut(lengths, position, segment[:, 0], segment[:, -1])


def pack(x: tf.Tensor, cut: Cut) -> tf.Tensor:
    """Entries [T, B, F] as segments [T + 1, N, F], 0 behind the end of each.

    One step more than the longest can have: see `lstm.sequences`.
    """
    length, number, size = tf.shape(x)[0] + 1, tf.size(cut.lengths), x.shape[-1]
    rows = tf.scatter_nd(tf.reshape(cut.position, [-1, 1]), tf.reshape(x, [-1, size]), [length * number, size])
    return tf.reshape(rows, [length, number, size])


def unpack(x: tf.Tensor, cut: Cut) -> tf.Tensor:
    """The inverse: segments [T + 1, N, D] as entries [T, B, D]."""
    return tf.gather(tf.reshape(x, [-1, x.shape[-1]]), cut.position)


def pack_state(state: Any, episode_start: tf.Tensor, cut: Cut) -> Any:
    """States [B, D] before the first entry as states [N, D] before each segment: 0 where an episode starts.

    `episode_start` is that of `cut`: an unroll may begin with a new episode.
    """

    def scatter(x: tf.Tensor) -> tf.Tensor:
        kept = tf.where(episode_start[0][:, tf.newaxis], 0.0, x)
        return tf.scatter_nd(cut.first[:, tf.newaxis], kept, [tf.size(cut.lengths), x.shape[-1]])

    return tf.nest.map_structure(scatter, state)


def unpack_state(state: Any, cut: Cut) -> Any:
    """States [N, D] behind each segment as those behind each unroll's last entry, [B, D]."""
    return tf.nest.map_structure(lambda x: tf.gather(x, cut.last), state)

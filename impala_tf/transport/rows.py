"""Sends an unroll as one row of bytes.

Reverb's cost is per column far more than per byte, so an unroll is one column: its fields, one after the other in the
order of `tf.nest.flatten`, in the machine's byte order. The learner takes the rows of a batch apart, bit for bit. A row
does not say what its bytes mean; the server does, in the signature of its table `FIELDS`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tree


def signature(fields: Any) -> tf.TensorSpec:
    """Returns the signature of one row, given that of its fields: a nest of `tf.TensorSpec`s."""
    return tf.TensorSpec([sum(_bytes(spec) for spec in tf.nest.flatten(fields))], tf.uint8)


class Packer:
    """Packs nests of numpy arrays into rows."""

    def __init__(self, fields: Any):
        """Allocates the row; `fields` is the signature of what it holds, a nest of `tf.TensorSpec`s."""
        self._row, self._views, start = np.zeros(signature(fields).shape, np.uint8), [], 0
        for spec in tf.nest.flatten(fields):
            end = start + _bytes(spec)
            self._views.append(self._row[start:end].view(spec.dtype.as_numpy_dtype).reshape(spec.shape))
            start = end

    def pack(self, values: Any) -> np.ndarray:
        """Returns the row of `values`, uint8 [bytes]. It is valid until the next call.

        Raises:
          ValueError: a shape or dtype is not that of the signature, or there are more or fewer arrays; a row would not
            show it.
        """
        for view, value in zip(self._views, tree.flatten(values), strict=True):
            value = np.asarray(value)
            if value.shape != view.shape or value.dtype != view.dtype:
                raise ValueError(
                    f"The signature says {view.dtype} {list(view.shape)}, but this is {value.dtype} "
                    f"{list(value.shape)}."
                )
            view[...] = value
        return self._row


def unpack(rows: tf.Tensor, fields: Any) -> Any:
    """Takes a batch of rows apart.

    Args:
      rows: uint8 [B, bytes].
      fields: signature of what a row holds.

    Returns:
      The nest of `fields`: tensors [B, ...].
    """
    specs = tf.nest.flatten(fields)
    parts = tf.split(rows, [_bytes(spec) for spec in specs], axis=1)
    return tf.nest.pack_sequence_as(fields, [_typed(part, spec) for part, spec in zip(parts, specs)])


def _typed(part: tf.Tensor, spec: tf.TensorSpec) -> tf.Tensor:
    """Turns the bytes of one field, uint8 [B, bytes], into [B, ...] of its type."""
    size, batch_size = spec.dtype.size, tf.shape(part)[0]
    shape = [batch_size, *spec.shape]
    if spec.dtype == tf.bool:  # TensorFlow casts no bits to bool.
        return tf.cast(tf.reshape(part, shape), tf.bool)
    return tf.bitcast(tf.reshape(part, shape if size == 1 else [*shape, size]), spec.dtype)


def _bytes(spec: tf.TensorSpec) -> int:
    if spec.dtype.size == 0:
        raise ValueError(f"Fields of a row have a fixed size, and {spec.dtype.name} has none.")
    return spec.shape.num_elements() * spec.dtype.size

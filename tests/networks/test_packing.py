"""Compares the packing of unrolls into segments with a plain loop over the entries."""

import numpy as np
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from impala_tf.networks import packing

episode_starts = st.tuples(st.integers(1, 7), st.integers(1, 4)).flatmap(lambda shape: arrays.arrays(bool, shape))


def segments(episode_start):
    """Lists the segments as (b, first t, last t + 1)."""
    num_steps, batch_size = episode_start.shape
    found = []
    for b in range(batch_size):
        starts = [t for t in range(num_steps) if t == 0 or episode_start[t, b]]
        found += [(b, start, end) for start, end in zip(starts, [*starts[1:], num_steps])]
    return found


@given(episode_starts)
def test_each_segment_becomes_a_column(episode_start):
    num_steps, batch_size = episode_start.shape
    x = 1 + np.arange(episode_start.size * 2, dtype=np.float32).reshape(num_steps, batch_size, 2)
    expected = segments(episode_start)
    cut = packing.cut(tf.constant(episode_start))
    packed = packing.pack(x, cut).numpy()
    assert packed.shape == (num_steps + 1, len(expected), 2)
    for column, (b, start, end) in enumerate(expected):
        assert cut.lengths[column] == end - start
        np.testing.assert_array_equal(packed[: end - start, column], x[start:end, b])
        assert not packed[end - start :, column].any()
    np.testing.assert_array_equal(packing.unpack(packed, cut), x)


@given(episode_starts)
def test_states_before_and_after(episode_start):
    batch_size = episode_start.shape[1]
    expected = segments(episode_start)
    cut = packing.cut(tf.constant(episode_start))
    state = 1 + np.arange(batch_size * 3, dtype=np.float32).reshape(batch_size, 3)
    before = packing.pack_state(state, tf.constant(episode_start), cut).numpy()
    for column, (b, start, _) in enumerate(expected):
        carried = start == 0 and not episode_start[0, b]
        np.testing.assert_array_equal(before[column], state[b] if carried else np.zeros(3))
    numbers = np.arange(len(expected), dtype=np.float32)[:, None]
    ends = [column for column, (_, _, end) in enumerate(expected) if end == len(episode_start)]
    np.testing.assert_array_equal(packing.unpack_state(numbers, cut)[:, 0], ends)

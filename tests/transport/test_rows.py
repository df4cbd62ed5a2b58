"""Fields that were packed into rows and unpacked are the same, bit for bit; other fields are refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import reverb
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from impala_tf import environments
from impala_tf.config import DataConfig
from impala_tf.errors import UserError
from impala_tf.structures import Trajectory
from impala_tf.transport import FIELDS, REPLAY, TRAJECTORIES, rows, server
from impala_tf.transport.actor_end import ActorEnd
from impala_tf.transport.connection import ask
from impala_tf.transport.signatures import check_same, trajectory_signature, unroll_signature
from impala_tf.transport.writer import UnrollWriter

DTYPES = [
    *(tf.bool, tf.uint8, tf.int8, tf.uint16, tf.int16, tf.int32, tf.uint32, tf.int64, tf.uint64),
    *(tf.float16, tf.bfloat16, tf.float32, tf.float64),
]
SPECS = st.builds(
    tf.TensorSpec, st.lists(st.integers(0, 4), max_size=3).map(tuple), st.sampled_from(DTYPES), name=st.none()
)
NESTS = st.recursive(
    SPECS,
    lambda part: st.one_of(
        st.lists(part, max_size=4).map(tuple), st.dictionaries(st.sampled_from("zyxab"), part, max_size=3)
    ),
    max_leaves=8,
).filter(tf.nest.flatten)


def _bits(array):
    return np.ascontiguousarray(array).tobytes()


def _value(spec, random):
    """An array of random bits: numbers, infinities and NaNs with any payload."""
    dtype = spec.dtype.as_numpy_dtype
    if spec.dtype == tf.bool:
        return random.integers(0, 2, spec.shape).astype(np.bool_)
    raw = random.integers(0, 256, rows.signature(spec).shape, np.uint8)
    return raw.view(dtype).reshape(spec.shape)


@settings(deadline=None, max_examples=150)
@given(NESTS, st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_any_nest_is_unpacked_as_it_was(fields, batch_size, seed):
    random, packer = np.random.default_rng(seed), rows.Packer(fields)
    values = [tf.nest.map_structure(lambda spec: _value(spec, random), fields) for _ in range(batch_size)]
    batch = np.stack([packer.pack(value).copy() for value in values])
    assert batch.shape[1:] == rows.signature(fields).shape
    unpacked = rows.unpack(tf.constant(batch), fields)
    tf.nest.assert_same_structure(unpacked, fields)
    for spec, tensor, *arrays in zip(*map(tf.nest.flatten, [fields, unpacked, *values])):
        assert tensor.dtype == spec.dtype and tensor.shape == (batch_size, *spec.shape)
        assert _bits(tensor.numpy()) == _bits(np.stack(arrays))


def _single(bits):
    return np.array(bits, np.uint32).view(np.float32)


@pytest.mark.parametrize(
    "array",
    [
        _single([0x7FC00000, 0x7F800001, 0xFFC12345, 0x7FFFFFFF]),  # Quiet and signaling NaNs with payloads.
        np.array([-0.0, 0.0, np.inf, -np.inf, np.finfo(np.float32).smallest_subnormal], np.float32),
        np.array([np.iinfo(np.int32).min, -1, 0, np.iinfo(np.int32).max], np.int32),
        np.array([np.iinfo(np.int64).min, -1, 0, np.iinfo(np.int64).max], np.int64),
        np.array([True, False]),
        np.array([0x7FC1, 0xFF81, 0x8000, 0x0001], np.uint16).view(tf.bfloat16.as_numpy_dtype),
    ],
    ids=["nan", "float32", "int32", "int64", "bool", "bfloat16"],
)
def test_extremes_survive_the_graph_and_the_server(array):
    """Behind a field of one byte, so that nothing is aligned."""
    fields = {"a": tf.TensorSpec((), tf.uint8), "b": tf.TensorSpec(array.shape, tf.as_dtype(array.dtype))}
    with server.Server(server.load_config(DataConfig()), fields, []) as running:
        writer = UnrollWriter(running.address, fields)
        writer.write({"a": np.uint8(7), "b": array})
        assert writer.flush(timeout=10)
        row = next(reverb.Client(running.address).sample(TRAJECTORIES, 1, emit_timesteps=False)).data[0]
        writer.close()
    unpack = tf.function(lambda batch: rows.unpack(batch, fields))
    found = unpack(tf.constant(row[np.newaxis]))
    assert found["a"].numpy() == [7]
    assert _bits(found["b"].numpy()) == _bits(array)


def test_a_row_is_the_bytes_of_its_fields_and_nothing_else():
    fields = (tf.TensorSpec((2,), tf.int32), {"b": tf.TensorSpec((), tf.bool), "a": tf.TensorSpec((), tf.float32)})
    values = (np.array([1, -2], np.int32), {"b": np.True_, "a": np.float32(0.5)})
    expected = np.array([1, -2], np.int32).tobytes() + np.float32(0.5).tobytes() + b"\1"  # Dicts by key.
    assert rows.Packer(fields).pack(values).tobytes() == expected
    assert sys.byteorder == "little"  # Actors on other machines send their own byte order; all there are have this.


def test_arrays_of_any_layout_are_packed():
    values = np.arange(24, dtype=np.int32).reshape(4, 6)
    packer = rows.Packer(tf.TensorSpec((6, 4), tf.int32))
    assert packer.pack(values.T).tobytes() == np.ascontiguousarray(values.T).tobytes()


@pytest.mark.parametrize(
    "value",
    [
        {"a": np.zeros(3, np.float32), "b": np.zeros((), np.int32)},  # As many bytes, another type.
        {"a": np.zeros((3, 1), np.int32), "b": np.zeros((), np.int32)},
        {"a": np.zeros(1, np.int32), "b": np.zeros((), np.int32)},  # NumPy would repeat it.
        {"a": np.zeros(3, np.int32)},
        {"a": np.zeros(3, np.int32), "b": np.zeros((), np.int32), "c": np.zeros((), np.int32)},
    ],
)
def test_what_the_signature_does_not_say_is_refused(value):
    packer = rows.Packer({"a": tf.TensorSpec((3,), tf.int32), "b": tf.TensorSpec((), tf.int32)})
    with pytest.raises(ValueError, match=r"signature says|argument"):
        packer.pack(value)


def test_text_has_no_fixed_size():
    with pytest.raises(ValueError, match="fixed size"):
        rows.signature(tf.TensorSpec((3,), tf.string))


SPEC = environments.spec("catch")


def test_the_server_says_what_a_row_holds():
    unroll = unroll_signature(SPEC, (), 5)
    config = server.load_config(DataConfig(replay_fraction=0.5, replay_size=64))
    with server.Server(config, unroll, []) as running:
        tables = ask(running.address)
    for name in (TRAJECTORIES, REPLAY):
        assert tables[name].signature == rows.signature(unroll)
    check_same("unrolls", tables[FIELDS].signature, unroll)
    assert tf.nest.flatten(tables[FIELDS].signature) == tf.nest.flatten(unroll)
    assert list(tables[FIELDS].signature._asdict()) == list(Trajectory._fields)


def _connect(address, unroll_length=5):
    variables = [tf.Variable(0.0)]
    with ActorEnd(address, SPEC, (), unroll_length, variables, timeout=10):
        pass


def test_an_actor_with_other_fields_is_told_which():
    with (
        server.Server(server.load_config(DataConfig()), unroll_signature(SPEC, (), 5), [tf.Variable(0.0)]) as running,
        pytest.raises(UserError, match=r"unrolls.*action: int32 \[6\] at the learner, int32 \[8\] here.*same version"),
    ):
        _connect(running.address, unroll_length=7)


def test_a_learner_whose_unrolls_are_no_rows_is_refused(monkeypatch):
    """As before there were rows: each field was a column, and no table said what they mean."""
    monkeypatch.setattr(rows, "signature", lambda fields: fields)
    monkeypatch.setattr(server, "FIELDS", "something_else")
    running = server.Server(server.load_config(DataConfig()), unroll_signature(SPEC, (), 5), [tf.Variable(0.0)])
    monkeypatch.undo()
    with running, pytest.raises(UserError, match=r"actor's unrolls do not match the learner's.*same version"):
        _connect(running.address)


def test_an_actor_that_sends_no_rows_refuses_itself():
    """What an actor of an earlier version compares: the signature of its columns with the queue's."""
    unroll = trajectory_signature(SPEC, (), 5)
    with server.Server(server.load_config(DataConfig()), unroll, []) as running:
        queue = ask(running.address)[TRAJECTORIES]
    with pytest.raises(UserError, match=r"actor's unrolls do not match the learner's.*same version"):
        check_same("unrolls", queue.signature, unroll)

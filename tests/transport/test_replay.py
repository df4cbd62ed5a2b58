"""Replay through a real Reverb server: what each batch holds, what the replay keeps, and the memory that it takes."""

from __future__ import annotations

import contextlib
import logging
import threading

import numpy as np
import pytest
import reverb
import tensorflow as tf
from tensorflow.python.autograph.impl import api

from impala_tf import environments, machine
from impala_tf.config import DataConfig
from impala_tf.errors import UserError
from impala_tf.networks.agent import Agent
from impala_tf.structures import ArraySpec, EnvironmentSpec, Trajectory
from impala_tf.transport import REPLAY, TRAJECTORIES, replay
from impala_tf.transport.actor_end import ActorEnd
from impala_tf.transport.learner_end import LearnerEnd
from impala_tf.transport.signatures import trajectory_signature, unroll_signature

T, BATCH, FRESH = 2, 32, 16
UNROLLS, SIZE = 10_000, 1_000
LSTM = tuple(ArraySpec((3,), np.dtype(np.float32)) for _ in range(2))
SPEC = EnvironmentSpec(ArraySpec((2,), np.dtype(np.int32)), num_actions=3, frames_per_step=4)
STACKS = EnvironmentSpec(ArraySpec((4, 4, 4), np.dtype(np.uint8)), num_actions=3, frames_per_step=4, frame_stack=True)


def unrolls(number, spec=SPEC):
    """Unrolls [number, ...] of random numbers; the task of each is its number."""
    random = np.random.default_rng(1)

    def fill(array):
        shape, dtype = (number, *array.shape), array.dtype.as_numpy_dtype
        if dtype == np.uint8:
            frames = random.integers(1, 256, (number, T + 4, *shape[2:-1]), dtype)
            return np.stack([frames[:, i : i + T + 1] for i in range(4)], axis=-1)
        values = random.random(shape, np.float32)
        return values < 0.5 if dtype == np.bool_ else (1000 * values).astype(dtype)

    made = tf.nest.map_structure(fill, trajectory_signature(spec, LSTM, T))
    return made._replace(task_id=np.arange(number, dtype=np.int32), episode_length=np.zeros((number, T + 1), np.int32))


def each(stacked):
    """Yields the unrolls [T + 1, ...] of those that are stacked."""
    for number in stacked.task_id:
        yield tf.nest.map_structure(lambda x: x[number], stacked)  # noqa: B023


@contextlib.contextmanager
def ends(data, spec=SPEC):
    """The learner's end, an actor's, and what the server says about its replay."""
    variables = [tf.Variable([0.0])]
    with LearnerEnd(data, unroll_signature(spec, LSTM, T), variables) as learner:
        learner.publish(0)
        with ActorEnd(learner.address, spec, LSTM, T, variables, timeout=10) as actor:
            yield learner, actor.writer, lambda: reverb.Client(learner.address).server_info(5)[REPLAY]


def test_autograph_rewrites_nothing(monkeypatch):
    """That would slow the learner's start down."""
    rewritten = []
    monkeypatch.setattr(
        api.PyToTF, "transform", lambda _, function, context: rewritten.append(function) or (function, None, None)
    )
    with ends(DataConfig(unroll_length=T, batch_size=BATCH, replay_fraction=0.5, replay_size=SIZE), STACKS):
        assert rewritten == []


def taken(learner, batches):
    """(fresh, replayed) unrolls of the next batches, numpy, those of one array concatenated along [B]."""
    columns = []
    for _ in range(batches):
        batch = learner.next_batch(timeout=20)
        np.testing.assert_array_equal(batch.fresh, [True] * FRESH + [False] * (BATCH - FRESH))
        swapped = tf.nest.map_structure(
            lambda x: np.swapaxes(x.numpy(), 0, 1), batch.unrolls._replace(core_state=(), task_id=())
        )
        columns.append(
            swapped._replace(
                core_state=tf.nest.map_structure(lambda x: x.numpy(), batch.unrolls.core_state),
                task_id=batch.unrolls.task_id.numpy(),
            )
        )
    return tuple(
        tf.nest.map_structure(lambda *x, half=half: np.concatenate([part[half] for part in x]), *columns)
        for half in (slice(FRESH), slice(FRESH, None))
    )


@pytest.fixture(scope="module")
def learned():
    """(fresh, replayed, the replay's table) of 10,000 unrolls, half of each batch replayed from 1,000."""
    data = DataConfig(unroll_length=T, batch_size=BATCH, replay_fraction=0.5, replay_size=SIZE)
    with ends(data) as (learner, writer, table):
        written = unrolls(UNROLLS)

        def write():
            for number, unroll in enumerate(each(written)):
                writer.write(unroll)
                while number % 8 == 7 and not writer.flush(1.0, unconfirmed=8):  # As actors do.
                    pass

        writing = threading.Thread(target=write, daemon=True)
        writing.start()
        fresh, replayed = taken(learner, UNROLLS // FRESH)
        writing.join(10)
        assert writer.flush(10)
        yield written, fresh, replayed, table()


def test_every_unroll_is_fresh_once_and_in_order(learned):
    _, fresh, _, _ = learned
    np.testing.assert_array_equal(fresh.task_id, np.arange(UNROLLS))


@pytest.mark.parametrize("half", ["fresh", "replayed"])
def test_what_arrives_is_what_was_written(learned, half):
    """Bit for bit: the stored logits and core state are those of the acting policy, however often it is replayed."""
    written, fresh, replayed, _ = learned
    found = {"fresh": fresh, "replayed": replayed}[half]
    expected = tf.nest.map_structure(lambda x: x[found.task_id], written)
    for name in Trajectory._fields:
        tf.nest.map_structure(np.testing.assert_array_equal, getattr(found, name), getattr(expected, name))


def test_the_replay_holds_the_newest_unrolls(learned):
    """The oldest makes room. The replay and what is drawn from it may be ahead of the fresh unrolls, by what waits in
    the queue and in batches that are being prepared."""
    _, fresh, replayed, table = learned
    assert table.current_size == SIZE and table.max_size == SIZE
    assert table.rate_limiter_info.insert_stats.completed == UNROLLS  # None was lost, although the queue was full.
    newest = np.repeat(fresh.task_id[FRESH - 1 :: FRESH], BATCH - FRESH)
    age = newest - replayed.task_id
    assert 900 < age.max() < SIZE + 10 * FRESH and age.min() > -10 * FRESH


def test_replayed_unrolls_are_drawn_uniformly(learned):
    """Ages, once the replay is full: chi square in 20 bins has mean 19 and exceeds 60 with a probability of 4e-6."""
    _, fresh, replayed, _ = learned
    newest = np.repeat(fresh.task_id[FRESH - 1 :: FRESH], BATCH - FRESH)
    age = (newest - replayed.task_id)[newest > SIZE + 10 * FRESH]
    counts, _ = np.histogram(age, bins=20, range=(150, 850))  # The ends vary with what waits in the queue.
    assert counts.sum() == pytest.approx(0.7 * len(age), rel=0.05)
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 60


def test_frame_stacks_are_replayed_as_they_were():
    data = DataConfig(unroll_length=T, batch_size=BATCH, replay_fraction=0.5, replay_size=20)
    with ends(data, STACKS) as (learner, writer, _):
        written = unrolls(3 * FRESH, STACKS)
        for unroll in each(written):
            writer.write(unroll)
        for half in taken(learner, 3):
            np.testing.assert_array_equal(half.observation, written.observation[half.task_id])


def test_a_full_queue_makes_writers_wait_and_the_replay_never_does():
    """What the queue has no room for waits, and is lost in neither table."""
    data = DataConfig(unroll_length=T, batch_size=4, replay_fraction=0.5, replay_size=2, queue_size=5)
    with ends(data) as (learner, writer, table):
        for unroll in each(unrolls(60)):
            writer.write(unroll)
        assert not writer.flush(0.3)
        queue = reverb.Client(learner.address).server_info(5)[TRAJECTORIES]
        inserted = queue.rate_limiter_info.insert_stats.completed
        assert queue.current_size == 5 and 5 < inserted < 60
        assert writer.flush(5, unconfirmed=60 - inserted)
        found = [number for _ in range(30) for number in learner.next_batch(20).unrolls.task_id.numpy()[:2]]
        assert found == list(range(60)) and writer.flush(5)
        assert table().rate_limiter_info.insert_stats.completed == 60 and table().current_size == 2


def test_without_replay_there_is_no_table_to_fill():
    data = DataConfig(unroll_length=T, batch_size=4, reverb_config="replay")
    with pytest.raises(KeyError, match=REPLAY), ends(data) as (learner, writer, table):
        for unroll in each(unrolls(4)):
            writer.write(unroll)
        assert learner.next_batch(20).fresh.numpy().all()
        table()


def test_the_memory_is_estimated_and_refused_where_it_does_not_fit(caplog, monkeypatch):
    """An unroll of Atari: 21 frames of 84 x 84 and 3 that precede them, as they are sent, and 20 steps of the rest."""
    caplog.set_level(logging.INFO, logger="impala_tf")
    spec = EnvironmentSpec(ArraySpec((84, 84, 4), np.dtype(np.uint8)), 6, 4, frame_stack=True)
    signature = unroll_signature(spec, (), 20)
    per_step = 4 + 1 + 1 + 4 + 4 + 4 + 4 * 6 + 8
    each = 24 * 84 * 84 + 21 * per_step + 4 + 2400
    assert replay.unroll_bytes(signature) == each
    monkeypatch.setattr(machine, "available_memory", lambda: 1000 * each)
    replay.check_memory(signature, 1000)
    assert caplog.messages == [
        f"the replay holds 1,000 unrolls and takes at most {1000 * each / 2**20:.1f} MiB of the "
        f"{1000 * each / 2**20:.1f} MiB of memory that are available"
    ]
    with pytest.raises(UserError, match=r"--replay_size=1001: .* may take 16\d\.\d MiB, 16\d\.\d KiB .* At most 1000 "):
        replay.check_memory(signature, 1001)


def test_a_replay_that_does_not_fit_starts_nothing():
    agent = Agent(environments.spec("catch"), torso="mlp", core="none", seed=1)
    signature = unroll_signature(environments.spec("catch"), (), T)
    with pytest.raises(UserError, match="--replay_size=1000000000000000"):
        LearnerEnd(DataConfig(replay_fraction=0.5, replay_size=10**15), signature, agent.trainable_variables)

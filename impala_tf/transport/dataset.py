"""Samples unrolls from Reverb and batches them time-major."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import Any

import reverb
import tensorflow as tf
from tensorflow.python.eager import cancellation

from impala_tf.structures import Batch, Trajectory
from impala_tf.transport import REPLAY, TRAJECTORIES, frame_stacks, rows

# Dataset.map has AutoGraph rewrite functions and all that they call, which takes longer than tracing them.
_as_it_is = tf.autograph.experimental.do_not_convert


def make_dataset(address: str, signature: Trajectory, fresh: int, replayed: int = 0) -> tf.data.Dataset:
    """Returns a dataset of `Batch`es: unrolls time-major [T + 1, B, ...], their `core_state` and `task_id` [B, ...].

    The first unrolls of a batch are fresh, since the FIFO table gives each one out once; the others are replayed, drawn
    uniformly and with replacement. Unrolls sampled ahead of the learner add policy lag: one batch is in flight in
    addition to those the caller holds. The replay is drawn from as soon as it holds an unroll, so the first batches
    replay few unrolls, many times each.

    Args:
      address: the server's "host:port"; sampling from a server in the same process skips gRPC.
      signature: signature of one unroll, from `unroll_signature`. Rows and packed frame stacks are unpacked.
      fresh: number of fresh unrolls in a batch.
      replayed: number of replayed unrolls in a batch.
    """
    row = rows.signature(signature)
    unrolls = items(address, TRAJECTORIES, row, fresh).batch(fresh, drop_remainder=True)
    if replayed:
        old = items(address, REPLAY, row, replayed).batch(replayed, drop_remainder=True)
        unrolls = tf.data.Dataset.zip((unrolls, old)).map(_as_it_is(lambda *parts: tf.concat(parts, axis=0)))
    is_fresh = [True] * fresh + [False] * replayed

    def make_batch(batch: tf.Tensor) -> Batch:
        return Batch(_time_major(rows.unpack(batch, signature)), fresh=tf.constant(is_fresh))

    return in_one_thread(unrolls.map(_as_it_is(make_batch)))


def in_one_thread(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns the dataset with a thread of its own instead of one per core."""
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    return dataset.with_options(options)


def items(address: str, table: str, signature: Any, in_flight: int) -> tf.data.Dataset:
    """Returns a dataset of a table's items, in the order of its sampler.

    Args:
      address: the server's "host:port".
      table: name of the table.
      signature: signature of one item.
      in_flight: items that may be fetched ahead.
    """
    samples = reverb.TrajectoryDataset(
        server_address=address,
        table=table,
        dtypes=tf.nest.map_structure(lambda spec: spec.dtype, signature),
        shapes=tf.nest.map_structure(lambda spec: spec.shape, signature),
        # With more than one worker, batches would not keep the order of a FIFO table.
        num_workers_per_iterator=1,
        max_in_flight_samples_per_worker=in_flight,
        rate_limiter_timeout_ms=-1,
    )
    return samples.map(_as_it_is(lambda sample: sample.data))


def _time_major(batch: Trajectory) -> Trajectory:
    """Transposes batch-major unrolls [B, T + 1, ...] to [T + 1, B, ...] and unpacks their frame stacks."""

    def swap(x: tf.Tensor) -> tf.Tensor:
        return tf.transpose(x, [1, 0, *range(2, x.shape.rank)])

    observation = batch.observation
    packed = isinstance(observation, frame_stacks.Frames)
    not_per_step = {"core_state": (), "task_id": (), **({"observation": ()} if packed else {})}
    per_step = tf.nest.map_structure(swap, batch._replace(**not_per_step))
    if packed:
        per_step = per_step._replace(observation=frame_stacks.unpack(observation, batch.episode_length))
    return per_step._replace(core_state=batch.core_state, task_id=batch.task_id)


class BatchQueue:
    """Draws batches in a thread, so that the next batch is prepared while the learner computes and waits are bounded.

    Waiting for a sample inside Reverb has no deadline; waiting on this queue has one.
    """

    def __init__(self, dataset: tf.data.Dataset, prefetch: int):
        """Starts drawing.

        Args:
          dataset: yields `Batch`es, or what else the learner takes.
          prefetch: batches that may wait ready, in addition to the one being drawn.
        """
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=prefetch)
        self._stopped = threading.Event()
        self._iterator = iter(dataset)
        draw = tf.function(lambda: next(self._iterator), autograph=False).get_concrete_function()
        # Python's own iteration over a dataset cannot be interrupted.
        self._cancellation = cancellation.CancellationManager()
        self._next = self._cancellation.get_cancelable_function(draw)
        self._thread = threading.Thread(target=self._draw, name="batch-queue", daemon=True)
        self._thread.start()

    def _draw(self) -> None:
        try:
            while not self._stopped.is_set():
                self._put(self._next())
        except Exception as error:  # Re-raised in the thread that calls `get`.
            self._put(error)

    def _put(self, item: Any) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                return self._queue.put(item, timeout=0.1)

    def get(self, timeout: float) -> Any | None:
        """Returns the next batch, or None if none is ready within `timeout` seconds.

        Raises:
          Exception: any error from drawing the batch.
        """
        try:
            item = self._queue.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(item, Exception):
            raise item
        return item

    def stop(self) -> None:
        """Stops drawing; a sample that is already being waited for is still waited for, until `join`."""
        self._stopped.set()

    def join(self, timeout: float) -> None:
        """Ends the thread, after `stop`; waits for it at most `timeout` seconds.

        Stop the server first. While it runs, Reverb lets go of a waiting thread only after up to 3 s.
        """
        self._cancellation.start_cancel()
        self._thread.join(timeout)

"""Time-major batches of unrolls out of Reverb."""

from __future__ import annotations

import queue
import threading

import reverb
import tensorflow as tf

from impala_tf.structures import Trajectory
from impala_tf.transport import TRAJECTORIES, frame_stacks as frames


def make_dataset(address: str, signature: Trajectory, batch_size: int) -> tf.data.Dataset:
    """Batches of `Trajectory`, time-major: [T + 1, B, ...], `core_state` and `task_id` [B, ...].

    Unrolls sampled ahead of the learner are policy lag: one batch is in flight besides those that the caller holds.

    Args:
      address: of the server; sampling from a server in the same process skips gRPC.
      signature: of one unroll in the table, as `unroll_signature` gives it. Packed stacks are unpacked.
      batch_size: B.
    """
    samples = reverb.TrajectoryDataset(
        server_address=address,
        table=TRAJECTORIES,
        dtypes=tf.nest.map_structure(lambda spec: spec.dtype, signature),
        shapes=tf.nest.map_structure(lambda spec: spec.shape, signature),
        # One worker: with more, a FIFO table's order would not reach the batch.
        num_workers_per_iterator=1,
        max_in_flight_samples_per_worker=batch_size,
        rate_limiter_timeout_ms=-1,
    )
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    batches = samples.map(lambda sample: sample.data).batch(batch_size, drop_remainder=True)
    return batches.map(_time_major).with_options(options)


def _time_major(batch: Trajectory) -> Trajectory:
    def swap(x: tf.Tensor) -> tf.Tensor:
        return tf.transpose(x, [1, 0, *range(2, x.shape.rank)])

    observation = batch.observation
    packed = isinstance(observation, frames.Frames)
    not_per_step = {"core_state": (), "task_id": (), **({"observation": ()} if packed else {})}
    per_step = tf.nest.map_structure(swap, batch._replace(**not_per_step))
    if packed:
        per_step = per_step._replace(observation=frames.unpack(observation, batch.episode_length))
    return per_step._replace(core_state=batch.core_state, task_id=batch.task_id)


class BatchQueue:
    """Draws batches in a thread, so that input is prepared while the learner computes and no wait is for ever.

    A sample that Reverb waits for cannot be interrupted; a wait on this queue can.
    """

    def __init__(self, dataset: tf.data.Dataset, prefetch: int):
        """Starts drawing; at most `prefetch` batches wait besides the one being drawn."""
        self._queue: queue.Queue[Trajectory | Exception] = queue.Queue(maxsize=prefetch)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._draw, args=(dataset,), name="batch-queue", daemon=True)
        self._thread.start()

    def _draw(self, dataset: tf.data.Dataset) -> None:
        try:
            for batch in dataset:
                self._put(batch)
                if self._stopped.is_set():
                    return
        except Exception as error:  # handed to the thread that waits for a batch
            self._put(error)

    def _put(self, item: Trajectory | Exception) -> None:
        while not self._stopped.is_set():
            try:
                return self._queue.put(item, timeout=0.5)
            except queue.Full:
                continue

    def get(self, timeout: float) -> Trajectory | None:
        """The next batch, or None if there is none within `timeout` seconds.

        Raises:
          Exception: what drawing the batch raised.
        """
        try:
            item = self._queue.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(item, Exception):
            raise item
        return item

    def stop(self) -> None:
        """Ends the thread once it is no longer inside Reverb; stop the server to get it out."""
        self._stopped.set()

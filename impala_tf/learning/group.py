"""The learners of a run, which update together (section 3): sums and exchanges over all of them.

Every learner must make the same calls in the same order. Gradients travel by tf.distribute's collectives: NCCL between
GPUs, a ring over gRPC between CPUs. Of its strategy, only these collectives are used; variables are ordinary ones.
"""

from __future__ import annotations

import contextlib
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from impala_tf.errors import LearnerLost, UserError

_LOOK_SECONDS = 0.2
_BROKEN = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
)


class Group:
    """A run's only learner.

    Attributes:
      rank: number of this learner, from 0. Learner 0 leads: it writes the run's folder.
      size: number of learners.
    """

    rank = 0
    size = 1

    def sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Returns the sums of float32 tensors over all learners, to the bit the same in all; for use in graphs."""
        return list(tensors)

    def gather(self, numbers: np.ndarray) -> np.ndarray:
        """Returns everybody's `numbers`, int64 [K], as int64 [size, K].

        Raises:
          LearnerLost: another learner has died or cannot be reached.
        """
        return numbers[None]

    def broadcast(self, variables: Sequence[tf.Variable]) -> None:
        """Overwrites the variables of all learners with those of learner 0.

        Raises:
          LearnerLost: another learner has died or cannot be reached.
        """

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Raises `LearnerLost` if a `sum` inside fails because another learner has died or cannot be reached."""
        yield


ALONE = Group()


class ConnectedGroup(Group):
    """Several learners, each in a process of its own."""

    def __init__(
        self,
        addresses: Sequence[str],
        rank: int,
        timeout: float,
        beat: Callable[[], None] = lambda: None,
        stop: threading.Event | None = None,
    ):
        """Waits for the other learners. Must come before the process makes its first tensor.

        Args:
          addresses: host:port of each learner in order; this one listens on the port of its own.
          rank: number of this learner.
          timeout: seconds to wait for the others.
          beat: called several times a second during the wait.
          stop: ends the wait.

        Raises:
          UserError: not all learners are there in time, or `stop` was set.
        """
        self.rank, self.size = rank, len(addresses)
        self._strategy = _connect(addresses, rank, timeout, beat, stop or threading.Event())
        self._gather = tf.function(self._gathered, autograph=False)

    def sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Returns the sums of float32 tensors over all learners."""
        return list(self._strategy.run(_all_reduce, args=(list(tensors),)))

    def gather(self, numbers: np.ndarray) -> np.ndarray:
        """Returns everybody's numbers, int64 [size, K]."""
        with self.watched():
            return self._gather(tf.constant(numbers[None], tf.int64)).numpy()

    def broadcast(self, variables: Sequence[tf.Variable]) -> None:
        """Overwrites the variables with those of learner 0: the sum of its values and the others' zeros."""
        with self.watched():
            for dtype in sorted({variable.dtype.name for variable in variables}):
                same = [variable for variable in variables if variable.dtype.name == dtype]
                values = [v.read_value() if self.rank == 0 else tf.zeros_like(v) for v in same]
                summed = tf.function(self.sum, autograph=False)(values)
                for variable, value in zip(same, summed):
                    variable.assign(value)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Raises `LearnerLost` if another learner has died or cannot be reached."""
        try:
            yield
        except _BROKEN:
            raise LearnerLost(
                f"Learner {self.rank} has lost the others: one of the {self.size} learners has ended or cannot be "
                "reached. Learners update together: all must be started again, and go on from the newest checkpoint."
            ) from None

    def _gathered(self, numbers: tf.Tensor) -> tf.Tensor:
        return self._strategy.run(_all_gather, args=(numbers,))


def checksum(variables: Sequence[tf.Variable]) -> int:
    """Returns a number that differs if a bit of the variables differs."""
    total = 0
    for variable in variables:
        total = zlib.crc32(np.ascontiguousarray(variable.numpy()).tobytes(), total)
    return total


def _all_reduce(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    # A tensor that has passed through tf.identity inside the replica's function belongs to the replica.
    replica = tf.distribute.get_replica_context()
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, [tf.identity(tensor) for tensor in tensors])


def _all_gather(tensor: tf.Tensor) -> tf.Tensor:
    return tf.distribute.get_replica_context().all_gather(tf.identity(tensor), axis=0)


def _connect(addresses, rank, timeout, beat, stop) -> tf.distribute.Strategy:
    """Makes the strategy, which waits in native code for all learners: in a thread, so that there is a deadline."""
    made: list[tf.distribute.Strategy] = []
    errors: list[Exception] = []

    def make() -> None:
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({"worker": list(addresses)}), task_type="worker", task_id=rank, rpc_layer="grpc"
        )
        try:
            made.append(tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver))
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=make, name="learner-group", daemon=True)
    thread.start()
    deadline = time.monotonic() + timeout
    while thread.is_alive():
        thread.join(_LOOK_SECONDS)
        beat()
        if stop.is_set():
            raise UserError("The learner was asked to end while it waited for the other learners.")
        if time.monotonic() > deadline:
            raise UserError(
                f"Not all of the {len(addresses)} learners were there within {timeout:g} s ({', '.join(addresses)}): "
                "are all of them running, with the same --learners, and can they reach each other?"
            )
    if errors:
        raise UserError(
            f"Learner {rank} cannot exchange gradients at {addresses[rank]}: {str(errors[0]).splitlines()[0]}"
        )
    return made[0]

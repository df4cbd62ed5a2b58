"""The learners of a run, which update together (section 3): sums and exchanges over all of them.

Every learner must make the same calls in the same order. Gradients travel by tf.distribute's collectives: NCCL between
GPUs, a ring over gRPC between CPUs. Of its strategy, only these collectives are used; variables are ordinary ones.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import signal
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from impala_tf.errors import LearnerLost, UserError
from impala_tf.transport import rendezvous

_LOGGER = logging.getLogger(__name__)
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

    def leave(self) -> None:
        """Returns when all learners have called it. Without it, one that ends cuts off others' last exchange."""


ALONE = Group()


class ConnectedGroup(Group):
    """Several learners, each in a process of its own."""

    def __init__(
        self,
        addresses: Sequence[str],
        rank: int,
        timeout: float,
        settings: dict[str, Any] | None = None,
        beat: Callable[[], None] = lambda: None,
        stop: threading.Event | None = None,
    ):
        """Waits for the other learners. Must come before the process makes its first tensor.

        Args:
          addresses: host:port of each learner in order; this one listens on the port of its own.
          rank: number of this learner.
          timeout: seconds to wait for the others.
          settings, beat, stop: as for `rendezvous.meet`.

        Raises:
          UserError: as for `rendezvous.meet`.
        """
        self.rank, self.size = rank, len(addresses)
        rendezvous.meet(addresses, rank, settings or {}, timeout, beat, stop)
        self._strategy = _connect(addresses, rank, timeout)
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
        except tf.errors.OpError as error:
            if not isinstance(error, _BROKEN) and "Collective" not in error.message:
                raise
            raise LearnerLost(
                f"Learner {self.rank} has lost the others: one of the {self.size} learners has ended or cannot be "
                "reached. Learners update together: all must be started again, and go on from the newest checkpoint."
            ) from None

    def leave(self) -> None:
        """Waits until all learners have called this."""
        with contextlib.suppress(LearnerLost):  # Who has left already had all that it needed, and so has this one.
            self.gather(np.zeros(1, np.int64))

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


def _connect(addresses: Sequence[str], rank: int, timeout: float) -> tf.distribute.Strategy:
    """Makes the strategy, which waits in native code for all learners, without a deadline; so they must be there."""
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(addresses)}), task_type="worker", task_id=rank, rpc_layer="grpc"
    )
    # If one has died since, nothing but this ends the process: the call holds the interpreter's lock.
    _LOGGER.info("all learners are there; connecting, for at most %g s", timeout)
    handler = signal.getsignal(signal.SIGTERM)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # Until it means something again.
    faulthandler.dump_traceback_later(timeout, exit=True, file=2)  # The log, wherever sys.stderr goes.
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise UserError(
            f"Learner {rank} cannot exchange gradients at {addresses[rank]}: {str(error).splitlines()[0]}"
        ) from None
    finally:
        faulthandler.cancel_dump_traceback_later()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # TensorFlow has put its own in its place, which does nothing here.
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

"""Several learners that update together (section 3): each update is the same for all, and all decide alike.

Before each update they tell each other whether they have a batch, and what is in it for the logs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from impala_tf.config import Config
from impala_tf.errors import UserError
from impala_tf.learning.group import Group, checksum
from impala_tf.learning.learner import Learner
from impala_tf.processes import parent
from impala_tf.structures import Batch, Trajectory

_LOGGER = logging.getLogger(__name__)
_LOOK_SECONDS = 0.25  # In which the others learn that this one has no batch yet.
_COMPARE_STEPS = 100  # Updates between two comparisons of all variables.

_STOP, _HAS_BATCH, _WAITED, _CHECKSUM, _HEADER = 0, 1, 2, 3, 4  # The first numbers that each learner sends.


class Round(NamedTuple):
    """What all learners know before an update that they may make together.

    Attributes:
      stopped: numbers of the learners that were asked to end; then all end.
      missing: numbers of the learners that have no batch yet; while there are any, nobody updates.
      longest: seconds and number of the learner among them that has waited longest; (0.0, 0) if there is none.
      batch: the batches of all learners side by side, [T + 1, N B], with the fields that `structures.logged` keeps, as
        NumPy arrays; None while a learner is missing.
    """

    stopped: list[int]
    missing: list[int]
    longest: tuple[float, int]
    batch: Batch | None


class Rounds:
    """Agrees with the other learners, once before each update or attempt at one."""

    def __init__(self, group: Group, unroll_length: int, batch_size: int):
        """Sends nothing yet.

        Args:
          group: the learners of the run.
          unroll_length: T, in agent steps.
          batch_size: B of each learner.
        """
        self._group, self._shape = group, (unroll_length + 1, batch_size)

    def agree(self, batch: Batch | None, waited: float, stop: bool, checksum: int = 0) -> Round:
        """Tells the other learners how this one is, and returns what all of them have said.

        Args:
          batch: the batch for the next update, time-major [T + 1, B, ...]; None: it has not come yet.
          waited: seconds since the last update.
          stop: whether this learner was asked to end.
          checksum: of this learner's variables (`group.checksum`); all must send the same, or 0.

        Raises:
          LearnerLost: another learner has died or cannot be reached.
          UserError: the learners' variables differ.
        """
        header = np.array([stop, batch is not None, int(waited * 1e6), checksum], np.int64)
        said = self._group.gather(np.concatenate([header, self._packed(batch)]))
        if len(set(said[:, _CHECKSUM].tolist())) > 1:
            raise UserError(
                "The learners' parameters differ, although each update is the same for all: a machine computes "
                "wrongly, or the learners are of different versions. They were equal when they were last compared, at "
                f"most {_COMPARE_STEPS} updates ago; a checkpoint that is younger than that holds those of learner 0."
            )
        missing = np.flatnonzero(said[:, _HAS_BATCH] == 0).tolist()
        waits = [(said[rank, _WAITED] / 1e6, rank) for rank in missing]
        longest = max(waits, default=(0.0, 0))
        batches = None if missing else self._unpacked(said[:, _HEADER:])
        return Round(np.flatnonzero(said[:, _STOP]).tolist(), missing, longest, batches)

    def _packed(self, batch: Batch | None) -> np.ndarray:
        """Returns a batch's numbers for the logs as int64, whatever they were."""
        entries, size = self._shape
        if batch is None:
            return np.zeros(3 * entries * size + 2 * size, np.int64)
        unrolls = batch.unrolls
        fields = (
            unrolls.episode_return.numpy().view(np.int32),  # The bits of the float32.
            unrolls.episode_length.numpy(),
            unrolls.learner_step.numpy(),
            unrolls.task_id.numpy(),
            batch.fresh.numpy(),
        )
        return np.concatenate([field.astype(np.int64).ravel() for field in fields])

    def _unpacked(self, numbers: np.ndarray) -> Batch:
        """Returns the batches of all learners, from int64 [N, K], as one."""
        entries, size = self._shape
        learners, whole = len(numbers), entries * size
        *per_entry, task_id, fresh = np.split(numbers, [whole, 2 * whole, 3 * whole, 3 * whole + size], axis=1)
        returns, lengths, steps = (
            field.reshape(learners, entries, size).swapaxes(0, 1).reshape(entries, learners * size)
            for field in per_entry
        )
        unrolls = Trajectory(*[()] * len(Trajectory._fields))._replace(
            episode_return=returns.astype(np.int32).view(np.float32),
            episode_length=lengths.astype(np.int32),
            learner_step=steps,
            task_id=task_id.ravel().astype(np.int32),
        )
        return Batch(unrolls, fresh.ravel().astype(bool))


class Training(Protocol):
    """One of the learners, as `impala_tf.roles.learner.Training` has it."""

    learner: Learner

    @property
    def finished(self) -> bool: ...

    @property
    def step_count(self) -> int: ...

    def next_batch(self, timeout: float) -> Any | None: ...

    def update(
        self, batch: Any, waited: float, on_update: Callable[[], None], counted: Batch | None = None
    ) -> None: ...

    def nothing_arrived(self, where: str = "") -> UserError: ...


def run(
    training: Training,
    config: Config,
    stop: threading.Event,
    check: Callable[[], None],
    on_update: Callable[[], None],
) -> list[int]:
    """Updates with the other learners until the run is finished or one of them is asked to end.

    Their variables are compared from time to time and at the end, before the last checkpoint.

    Args:
      training: this learner.
      config: settings of the run.
      stop: asks this learner to end; all then end.
      check: called several times a second; an exception that it raises ends the run.
      on_update: called after each update, when its parameters have been handed to the publisher.

    Returns:
      The numbers of the learners that were asked to end.

    Raises:
      LearnerLost: another learner has died or cannot be reached.
      UserError: as for `Training.update`; a learner got nothing for `stall_timeout`; or the variables differ.
    """
    rounds = Rounds(training.learner.group, config.data.unroll_length, config.data.batch_size)
    batch, waiting_since, stopped = None, time.monotonic(), []
    _compare(training, rounds)
    while not training.finished:
        check()
        parent.beat()
        batch = batch or training.next_batch(_LOOK_SECONDS)
        waited = time.monotonic() - waiting_since
        compare = training.step_count % _COMPARE_STEPS == 0
        agreed = rounds.agree(batch, waited, stop.is_set(), checksum(training.learner.variables) if compare else 0)
        if stopped := agreed.stopped:
            break
        if batch is not None and agreed.batch is not None:
            training.update(batch, waited, on_update, counted=agreed.batch)
            batch, waiting_since = None, time.monotonic()
        elif agreed.longest[0] > config.launch.stall_timeout:
            raise training.nothing_arrived(f" at learner {agreed.longest[1]}")
    _compare(training, rounds)
    training.learner.group.leave()
    return stopped


def _compare(training: Training, rounds: Rounds) -> None:
    """Compares the variables of all learners."""
    mine = checksum(training.learner.variables)
    rounds.agree(None, 0.0, stop=False, checksum=mine)
    rank, step = training.learner.group.rank, f"{training.step_count:,}"
    _LOGGER.info("learner %d: checksum of all variables after step %s: %08x", rank, step, mine)

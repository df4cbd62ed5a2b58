"""Alternates between acting and learning in one thread: a batch of unrolls, an update, the next batch."""

from __future__ import annotations

import math
import threading
import time
from typing import Protocol

from impala_tf.config import Config
from impala_tf.environments.base import EnvironmentFailed
from impala_tf.processes import parent
from impala_tf.roles.learner import Training
from impala_tf.transport.actor_end import ActorEnd

_LOOK_SECONDS = 0.25
_STARTING_SECONDS = 600.0  # Environments may be made in the first round.


class RoundEnded(Exception):
    """A round of acting is broken off: the run was asked to stop, or no unroll was finished for too long."""


class Beat:
    """What an actor calls at every step and during every wait: a sign of life, and the end of rounds that must end."""

    def __init__(self, config: Config, stop: threading.Event):
        """
        Args:
          config: `stall_timeout` is the time in which an unroll must be finished.
          stop: ends the round.
        """
        self._stop, self._seconds = stop, config.launch.stall_timeout
        self._end = time.monotonic() + max(self._seconds, _STARTING_SECONDS)

    def begin(self) -> None:
        """Starts the time anew: unrolls were finished, or an update was made."""
        self._end = time.monotonic() + self._seconds

    def __call__(self) -> None:
        """
        Raises:
          RoundEnded: see there.
        """
        parent.beat()
        if self._stop.is_set() or time.monotonic() > self._end:
            raise RoundEnded


class Acts(Protocol):
    """Acts in environments for an unroll at a time; implemented by `Actor` and `TrajectoryRounds`.

    Attributes:
      num_envs: number of environments.
    """

    @property
    def num_envs(self) -> int: ...

    def run_unroll(self, at_most: float = math.inf) -> int:
        """Acts with the newest parameters; writes at most `at_most` finished unrolls and returns their number."""


def run(config: Config, training: Training, actor: Acts, end: ActorEnd, stop: threading.Event, beat: Beat) -> None:
    """Trains until the run is finished or `stop` is set, through a real Reverb server.

    After an environment has failed, its unroll is dropped, and the actor plays another round to fill the batch. If the
    actor has as many environments as a batch has fresh unrolls, those that the round has too many are dropped, and the
    policy lag is always 0, or --policy_lag. Otherwise some unrolls wait for a later update.

    Args:
      config: settings of the run.
      training: the learner.
      actor: acts between two updates.
      end: the actor's end of the transport.
      stop: ends the run early, with a checkpoint.
      beat: what the actor calls while it acts.

    Raises:
      UserError: as for `Training.update` and `Actor.run_unroll`; the environments failed, or finished no unroll in
        `stall_timeout`; or a batch did not come back in time.
    """
    stall_timeout = config.launch.stall_timeout
    training.trace()
    collected, needed = 0, config.data.fresh_batch_size
    while not (training.finished or stop.is_set()):
        if collected < needed:
            try:
                written = actor.run_unroll(needed - collected if actor.num_envs == needed else math.inf)
            except EnvironmentFailed as error:
                raise training.stalled(str(error)) from error
            except RoundEnded:
                if stop.is_set():
                    break
                raise training.stalled(
                    f"The environments finished no unroll in {stall_timeout:g} s (--stall_timeout): they fail, as the "
                    "log then says, or need more time."
                ) from None
            collected += written
            if written:
                beat.begin()
            continue
        # Not to the end: what does not fit into the queue is taken while the learner samples.
        end.writer.flush(timeout=0.05)
        start = time.monotonic()
        while (batch := training.next_batch(_LOOK_SECONDS)) is None:
            if time.monotonic() - start > stall_timeout:
                raise training.stalled(
                    f"{collected} unrolls were written, but no batch came back in {stall_timeout:g} s "
                    "(--stall_timeout)."
                )
        training.update(batch, time.monotonic() - start)
        training.wait_until_published()
        collected -= needed
        beat.begin()
    training.finish(stop)

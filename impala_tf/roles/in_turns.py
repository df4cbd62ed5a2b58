"""Alternates between acting and learning in one thread: a batch of unrolls, an update, the next batch."""

from __future__ import annotations

import math
import threading
import time
from typing import Protocol

from impala_tf.config import Config
from impala_tf.environments.base import EnvironmentFailed
from impala_tf.roles.learner import Training
from impala_tf.transport.actor_end import ActorEnd

_LOOK_SECONDS = 0.25


class Acts(Protocol):
    """Acts in environments for an unroll at a time; implemented by `Actor` and `TrajectoryRounds`.

    Attributes:
      num_envs: number of environments.
    """

    @property
    def num_envs(self) -> int: ...

    def run_unroll(self, at_most: float = math.inf) -> int:
        """Acts with the newest parameters; writes at most `at_most` finished unrolls and returns their number."""


def run(config: Config, training: Training, actor: Acts, end: ActorEnd, stop: threading.Event) -> None:
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

    Raises:
      UserError: as for `Training.update` and `Actor.run_unroll`; the environments failed; or a batch did not come back
        in time.
    """
    stall_timeout = config.launch.stall_timeout
    training.trace()
    collected, needed = 0, config.data.fresh_batch_size
    while not (training.finished or stop.is_set()):
        if collected < needed:
            try:
                collected += actor.run_unroll(needed - collected if actor.num_envs == needed else math.inf)
            except EnvironmentFailed as error:
                raise training.stalled(str(error)) from error
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
    training.finish(stop)

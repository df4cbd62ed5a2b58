"""Alternates between acting and learning in one thread: a batch of unrolls, an update, the next batch."""

from __future__ import annotations

import threading
import time

from impala_tf.acting.actor import Actor
from impala_tf.config import Config
from impala_tf.environments.base import EnvironmentFailed
from impala_tf.roles.learner import Training
from impala_tf.transport.actor_end import ActorEnd

_LOOK_SECONDS = 0.25


def run(config: Config, training: Training, actor: Actor, end: ActorEnd, stop: threading.Event) -> None:
    """Trains until the run is finished or `stop` is set, through a real Reverb server.

    The policy lag is 0 if the actor has as many environments as a batch has fresh unrolls. If it has more, some unrolls
    wait for a later update. The same happens after an environment has failed: its unroll is dropped, and the actor
    plays another round to fill the batch.

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
    collected = 0
    while not (training.finished or stop.is_set()):
        if collected < config.data.fresh_batch_size:
            try:
                collected += actor.run_unroll()
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
        collected -= config.data.fresh_batch_size
    training.finish(stop)

"""Learner and one actor in turns, in one thread: a batch of unrolls, an update, the next batch."""

from __future__ import annotations

import threading
import time

from impala_tf.acting.actor import Actor
from impala_tf.config import Config
from impala_tf.errors import UserError
from impala_tf.roles.learner import Training
from impala_tf.transport.actor_end import ActorEnd


def run(config: Config, training: Training, actor: Actor, end: ActorEnd, stop: threading.Event) -> None:
    """Trains until the run is finished or `stop` is set, through a real Reverb server.

    Every update is on unrolls of the newest parameters or, where a batch takes fewer unrolls than the actor writes at
    once, of parameters a few updates older.

    Args:
      config: of the run.
      training: the learner.
      actor: acts between two updates.
      end: the actor's end of the transport.
      stop: ends the run early, with a checkpoint.

    Raises:
      UserError: as `Training.update`; or a batch does not come.
    """
    stall_timeout = config.launch.stall_timeout
    collected = 0
    while not (training.finished or stop.is_set()):
        while collected < config.data.batch_size:
            collected += actor.run_unroll()
        # What does not fit the queue is taken while the learner samples, so this does not wait for all of it.
        end.writer.flush(timeout=0.05)
        start = time.monotonic()
        batch = training.next_batch(stall_timeout)
        if batch is None:
            raise UserError(f"{collected} unrolls were written, and no batch came back in {stall_timeout:g} s.")
        training.update(batch, time.monotonic() - start)
        training.end.wait_until_published(stall_timeout)
        collected -= config.data.batch_size
    training.finish(stop)

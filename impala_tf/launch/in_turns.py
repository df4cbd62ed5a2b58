"""Learner and one actor in turns in a single thread, through a real Reverb server: for debuggers and profilers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from impala_tf.config import Config
from impala_tf.errors import UserError
from impala_tf.roles.actor import Connection, make_actor
from impala_tf.roles.learner import Training


def run(config: Config, stop: threading.Event, say: Callable[[str], None]) -> None:
    """Trains until the run is finished or `stop` is set.

    Raises:
      UserError: as `Training`, `Connection`, `make_actor` and `Training.update`; or if a batch does not come.
    """
    with Training(config, say) as training:
        _take_turns(config, training, stop, say)


def _take_turns(config: Config, training: Training, stop: threading.Event, say: Callable[[str], None]) -> None:
    """Collects unrolls until there is a batch, updates, and so on, until the run is finished or `stop` is set.

    Every update is on unrolls of the newest parameters or, where a batch takes fewer unrolls than an actor delivers at
    once, of ones a few updates older.
    """
    connection = Connection(config, training.address, say)
    actor = make_actor(config, connection, say)
    collected = 0
    try:
        while not (training.finished or stop.is_set()):
            while collected < config.data.batch_size:
                collected += actor.run_unroll()
            # What does not fit the queue is taken while the learner samples, so this does not wait for all of it.
            connection.writer.flush(timeout=0.05)
            start = time.monotonic()
            batch = training.next_batch(config.run.stall_timeout)
            if batch is None:
                raise UserError(
                    f"{collected} unrolls were written, and no batch came back in {config.run.stall_timeout:g} s."
                )
            training.update(batch, time.monotonic() - start)
            collected -= config.data.batch_size
        training.finish(stop)
    finally:
        actor.environment.close()

"""An environment process: steps environments with the actions of a policy in another process."""

from __future__ import annotations

import logging
import pathlib
import time
from collections.abc import Callable, Sequence

import numpy as np

from impala_tf.environments import task_set
from impala_tf.environments.remote import worker
from impala_tf.environments.remote.mailbox import WorkerMailbox
from impala_tf.environments.task_set import TaskSet
from impala_tf.processes import parent
from impala_tf.processes.timings import Timings, shares
from impala_tf.topology import Topology

_LOGGER = logging.getLogger(__name__)


def run(
    tasks: TaskSet,
    topology: Topology,
    number: int,
    mailbox: WorkerMailbox,
    seed: Sequence[int],
    *,
    ready: Callable[[], None],
    log_interval: float,
    spans: pathlib.Path | None = None,
) -> None:
    """Steps until the process is ended; like an actor, it has nothing to save.

    Args:
      tasks: tasks of the run.
      topology: topology of the run.
      number: number of this process.
      mailbox: connects to the policy's process.
      seed: numbers that are different for every process of the run and for every start of it.
      ready: called after the first step.
      log_interval: seconds between reports of where the time goes.
      spans: CSV file for the spans of its activities; None: no file.

    Raises:
      UserError: the environments cannot be made.
    """
    own_seed = int(np.random.SeedSequence(seed).generate_state(1)[0]) % 2**31
    environment = task_set.make_batch(tasks, topology.task_ids(number), own_seed, topology.env_threads)
    timings = Timings(worker.ACTIVITIES, spans, on_lap=parent.beat)
    steps, reported = 0, time.monotonic()

    def on_step() -> None:
        nonlocal steps, reported
        steps += 1
        if steps == 1:
            ready()
        if time.monotonic() - reported > log_interval:
            reported = time.monotonic()
            spent = timings.spent
            parent.send(spent)
            _LOGGER.info("%d steps in %.0f s: %s", steps, spent.elapsed, shares(spent))

    try:
        worker.run(environment, mailbox, timings, on_step)
    finally:
        environment.close()

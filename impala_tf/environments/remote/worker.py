"""An environment process: steps a group of environments with the actions that the policy's process sends."""

from __future__ import annotations

from collections.abc import Callable

from impala_tf.environments.base import BatchedEnvironment
from impala_tf.environments.remote.mailbox import WorkerMailbox
from impala_tf.processes.timings import Timings

ACTIVITIES = ("inference", "environment")
_WAIT_SECONDS = 1.0


def run(
    environment: BatchedEnvironment,
    mailbox: WorkerMailbox,
    timings: Timings,
    on_step: Callable[[], None] = lambda: None,
) -> None:
    """Steps until the process is ended.

    Args:
      environment: of this worker.
      mailbox: of this worker.
      timings: of `ACTIVITIES`; waiting for actions counts as inference.
      on_step: called after each step.
    """
    mailbox.open()
    mailbox.put(environment.reset())
    timings.begin()
    while True:
        # Needs no deadline: the policy's process is watched, and this process ends with it.
        while (action := mailbox.actions(_WAIT_SECONDS)) is None:
            timings.lap("inference")
        timings.lap("inference")
        output = environment.step(action)
        timings.lap("environment")
        mailbox.put(output)
        on_step()

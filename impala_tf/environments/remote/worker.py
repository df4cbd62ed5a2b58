"""An environment process: steps a group of environments with the actions that the policy's process sends."""

from __future__ import annotations

import time
from collections.abc import Callable

from impala_tf.environments.remote.mailbox import WorkerMailbox
from impala_tf.environments.base import BatchedEnvironment

_WAIT_SECONDS = 1.0


def run(
    environment: BatchedEnvironment,
    mailbox: WorkerMailbox,
    say: Callable[[str], None],
    log_interval: float,
    ready: Callable[[], None],
) -> None:
    """Steps until the process is ended.

    Args:
      environment: of this worker.
      mailbox: of this worker.
      say: told every `log_interval` seconds what the time goes to.
      log_interval: in seconds.
      ready: called when the first actions have been taken.
    """
    mailbox.open()
    mailbox.put(environment.reset())
    steps, waited, start = 0, 0.0, time.monotonic()
    reported = start
    while True:
        waiting = time.monotonic()
        # The policy's process bounds the wait: it is watched, and this process ends with it.
        while (action := mailbox.actions(_WAIT_SECONDS)) is None:
            pass
        waited += time.monotonic() - waiting
        mailbox.put(environment.step(action))
        steps += 1
        if steps == 1:
            ready()
        if time.monotonic() - reported > log_interval:
            reported = time.monotonic()
            share = waited / (reported - start)
            say(f"{steps} steps in {reported - start:.0f} s: inference {share:.0%}, environment {1 - share:.0%}")

"""An environment process: steps a group of environments with the actions that the learner's process sends."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from impala_tf.central.mailbox import WorkerMailbox
from impala_tf.config import Config
from impala_tf.runtime.layout import make_environments

_WAIT_SECONDS = 1.0


def run(
    config: Config,
    mailbox: WorkerMailbox,
    seed: list[int],
    say: Callable[[str], None],
    ready: Callable[[], None],
) -> None:
    """Steps until the process is ended.

    Args:
      config: of the run.
      mailbox: of this worker.
      seed: numbers that no other worker, start or continuation of the run has.
      say: prints a line.
      ready: called when the first actions have been taken.

    Raises:
      UserError: the environments cannot be made.
    """
    mailbox.open()
    environment = make_environments(config, int(np.random.SeedSequence(seed).generate_state(1)[0]) % 2**31)
    try:
        mailbox.put(environment.reset())
        steps, waited, start = 0, 0.0, time.monotonic()
        reported = start
        while True:
            waiting = time.monotonic()
            # The learner's process bounds the wait: it ends the run when nothing moves, and this process ends with it.
            while (action := mailbox.actions(_WAIT_SECONDS)) is None:
                pass
            waited += time.monotonic() - waiting
            mailbox.put(environment.step(action))
            steps += 1
            if steps == 1:
                ready()
            if time.monotonic() - reported > config.run.log_interval:
                reported = time.monotonic()
                share = waited / (reported - start)
                say(f"{steps} steps in {reported - start:.0f} s: inference {share:.0%}, environment {1 - share:.0%}")
    finally:
        environment.close()

"""An actor's process: connects to a learner and acts until it is ended."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from impala_tf.actor import Actor, shares
from impala_tf.config import Config
from impala_tf.networks.agent import make_agent
from impala_tf.runtime.layout import environment_spec, make_environments, task_ids
from impala_tf.transport import TRAJECTORIES, VARIABLES
from impala_tf.transport.connection import ServerWatch, wait_for_server
from impala_tf.transport.signatures import check_same, unroll_signature, variables_signature
from impala_tf.transport.variables import VariableClient
from impala_tf.transport.writer import UnrollWriter


class ActorSetup:
    """An actor with its connections to a learner's server."""

    def __init__(
        self,
        config: Config,
        address: str,
        say: Callable[[str], None],
        warn: Callable[[str], None],
        on_lost: Callable[[str], None] | None = None,
    ):
        """Connects, checks that both sides expect the same unrolls and parameters, and makes the environments.

        Args:
          config: of the run.
          address: of the learner's server, host:port.
          say: told what is being waited for.
          warn: told of environments that fail and are started again.
          on_lost: called with a message, from a thread, when a server that has answered does so no more.

        Raises:
          UserError: nothing answers, the learner expects something else, or the environment cannot be made.
        """
        spec = environment_spec(config)
        agent = make_agent(spec, config)
        tables = wait_for_server(address, config.run.connect_timeout, say)
        self._watch = ServerWatch(address, config.run.connect_timeout, on_lost) if on_lost else None
        ours = unroll_signature(spec, agent.core_state_spec, config.data.unroll_length)
        check_same("unrolls", tables[TRAJECTORIES].signature, ours)
        check_same("parameters", tables[VARIABLES].signature, variables_signature(agent.trainable_variables))
        variables = VariableClient(address, agent.trainable_variables, config.run.connect_timeout, say)
        # The learner step goes into the seed: an actor that is started anew, in this run or when it is resumed, must
        # not play the same games again.
        seeds = np.random.SeedSequence([config.run.seed, config.run.actor_id, variables.refresh()]).generate_state(2)
        self.environment = make_environments(config, int(seeds[0]) % 2**31, warn)
        self.writer = UnrollWriter(address, spec.frame_stack)
        self.actor = Actor(
            self.environment,
            agent,
            self.writer.write,
            variables.refresh,
            config.data.unroll_length,
            int(seeds[1]),
            task_ids(config),
        )

    def close(self) -> None:
        """Closes the environments."""
        if self._watch:
            self._watch.stop()
        self.environment.close()


def run(config: Config, say: Callable[[str], None], warn: Callable[[str], None], ready: Callable[[], None]) -> None:
    """Acts until the process is ended: nothing here needs saving, so it is ended by a signal.

    Args:
      config: of the run, with the address of the learner's server.
      say: prints a line.
      warn: prints a line that the user should see.
      ready: called when the first unrolls have been taken.

    Raises:
      UserError: as `ActorSetup`.
    """
    tf.config.threading.set_intra_op_parallelism_threads(config.run.actor_threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.set_visible_devices([], "GPU")

    def lost(message: str) -> None:
        print(f"ERROR: {message}", file=sys.stderr, flush=True)
        os._exit(1)  # The main thread may wait in native code that nothing can interrupt.

    setup = ActorSetup(config, config.run.address, say, warn, lost)
    start = reported = time.monotonic()
    unrolls = 0
    try:
        while True:
            setup.actor.run_unroll()
            waiting = time.monotonic()
            while not setup.writer.flush(timeout=1.0):
                pass  # Back-pressure: the queue is full. `watch` ends the process if the server is gone.
            seconds = setup.actor.seconds
            seconds["queue"] = seconds.get("queue", 0.0) + time.monotonic() - waiting
            unrolls += setup.environment.num_envs
            if unrolls == setup.environment.num_envs:
                ready()
            if time.monotonic() - reported > config.run.log_interval:
                reported = time.monotonic()
                say(f"{unrolls} unrolls in {reported - start:.0f} s: {shares(seconds, reported - start)}")
    finally:
        setup.close()

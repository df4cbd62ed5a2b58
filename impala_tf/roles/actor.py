"""An actor's process: connects to a learner and acts until it is ended."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from impala_tf.acting.actor import Actor, shares
from impala_tf.config import Config
from impala_tf.acting.dynamic_batching import DynamicBatching
from impala_tf.networks.agent import make_agent
from impala_tf import topology as layout
from impala_tf.transport import TRAJECTORIES, VARIABLES
from impala_tf.transport.connection import ServerWatch, wait_for_server
from impala_tf.transport.signatures import check_same, unroll_signature, variables_signature
from impala_tf.transport.variables import VariableClient
from impala_tf.transport.writer import UnrollWriter


class Connection:
    """What an actor has of a learner's server.

    Attributes:
      spec: of the environments.
      agent: whose parameters `refresh` brings up to date.
      writer: takes finished unrolls.
      environment_seed, action_seed: of this process.
    """

    def __init__(
        self,
        config: Config,
        address: str,
        say: Callable[[str], None],
        on_lost: Callable[[str], None] | None = None,
    ):
        """Connects and checks that both sides expect the same unrolls and parameters.

        Args:
          config: of the run.
          address: of the learner's server, host:port.
          say: told what is being waited for.
          on_lost: called with a message, from a thread, when a server that has answered does so no more.

        Raises:
          UserError: nothing answers, or the learner expects something else.
        """
        self.spec = layout.environment_spec(config)
        self.agent = make_agent(self.spec, config)
        tables = wait_for_server(address, config.run.connect_timeout, say)
        self._watch = ServerWatch(address, config.run.connect_timeout, on_lost) if on_lost else None
        ours = unroll_signature(self.spec, self.agent.core_state_spec, config.data.unroll_length)
        check_same("unrolls", tables[TRAJECTORIES].signature, ours)
        check_same("parameters", tables[VARIABLES].signature, variables_signature(self.agent.trainable_variables))
        variables = VariableClient(address, self.agent.trainable_variables, config.run.connect_timeout, say)
        self.refresh = variables.refresh
        # The learner step goes into the seed: an actor that is started anew, in this run or when it is resumed, must
        # not play the same games again.
        seeds = np.random.SeedSequence([config.run.seed, config.run.actor_id, variables.refresh()]).generate_state(2)
        self.environment_seed, self.action_seed = int(seeds[0] >> 1), int(seeds[1])
        self.writer = UnrollWriter(address, self.spec.frame_stack)

    def close(self) -> None:
        """Watches the server no longer."""
        if self._watch:
            self._watch.stop()


def make_actor(config: Config, connection: Connection, warn: Callable[[str], None]) -> Actor:
    """An actor that steps all its environments together.

    Raises:
      UserError: the environments cannot be made.
    """
    return Actor(
        layout.make_environments(config, connection.environment_seed, warn),
        connection.agent,
        connection.writer.write,
        connection.refresh,
        config.data.unroll_length,
        connection.action_seed,
        layout.task_ids(config),
    )


def run(config: Config, say: Callable[[str], None], warn: Callable[[str], None], ready: Callable[[], None]) -> None:
    """Acts until the process is ended: nothing here needs saving, so it is ended by a signal.

    Args:
      config: of the run, with the address of the learner's server.
      say: prints a line.
      warn: prints a line that the user should see.
      ready: called when the first unrolls have been taken.

    Raises:
      UserError: as `Connection`; or the environments cannot be made.
    """
    tf.config.threading.set_intra_op_parallelism_threads(config.run.actor_threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.set_visible_devices([], "GPU")

    def lost(message: str) -> None:
        print(f"ERROR: {message}", file=sys.stderr, flush=True)
        os._exit(1)  # The main thread may wait in native code that nothing can interrupt.

    connection = Connection(config, config.run.address, say, lost)
    try:
        (_act_in_batches if layout.in_processes(config) else _act_in_step)(config, connection, say, warn, ready)
    finally:
        connection.close()


def _act_in_step(config: Config, connection: Connection, say, warn, ready) -> None:
    """All environments are stepped together."""
    actor = make_actor(config, connection, warn)
    num_envs = layout.envs_per_actor(config)
    start = reported = time.monotonic()
    unrolls = 0
    try:
        while True:
            actor.run_unroll()
            waiting = time.monotonic()
            while not connection.writer.flush(timeout=1.0):
                pass  # Back-pressure: the queue is full. `lost` ends the process if the server is gone.
            actor.seconds["queue"] = actor.seconds.get("queue", 0.0) + time.monotonic() - waiting
            unrolls += num_envs
            if unrolls == num_envs:
                ready()
            if time.monotonic() - reported > config.run.log_interval:
                reported = time.monotonic()
                say(f"{unrolls} unrolls in {reported - start:.0f} s: {shares(actor.seconds, reported - start)}")
    finally:
        actor.environment.close()


def _act_in_batches(config: Config, connection: Connection, say, warn, ready) -> None:
    """Each environment has a process of its own, and the policy acts for whichever of them wait for it."""
    pool = layout.make_pool(config, connection.spec, connection.environment_seed, warn)
    steps, learner_step = 0, 0

    def refresh() -> int:
        # Once per unroll, as an actor that steps its environments together does: each time costs more than to act.
        nonlocal steps, learner_step
        if steps % config.data.unroll_length == 0:
            learner_step = connection.refresh()
        steps += 1
        return learner_step

    batching = DynamicBatching(
        pool,
        connection.agent,
        connection.writer,
        refresh,
        config.data.unroll_length,
        layout.task_ids(config).tolist(),
        connection.action_seed,
        say,
        config.run.log_interval,
    )
    try:
        batching.run(ready)
    finally:
        pool.close()

"""An actor's process: connects to the learner and acts until the process is ended."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from impala_tf import tensor_leak
from impala_tf.acting import actor as acting
from impala_tf.acting import dynamic_batching
from impala_tf.acting.actor import Actor
from impala_tf.acting.dynamic_batching import DynamicBatching
from impala_tf.config import Config
from impala_tf.environments import task_set
from impala_tf.environments.task_set import TaskSet
from impala_tf.networks.agent import Agent, make_agent
from impala_tf.processes import parent
from impala_tf.processes.gate import ActorGate
from impala_tf.processes.timings import Timings, shares
from impala_tf.roles import agreement
from impala_tf.topology import Topology
from impala_tf.transport.actor_end import ActorEnd

_LOGGER = logging.getLogger(__name__)


def connect(
    config: Config,
    tasks: TaskSet,
    address: str,
    on_end: Callable[[str, bool], None] | None = None,
    relay: str = "",
) -> tuple[Agent, ActorEnd]:
    """Makes an agent and connects it to the learner.

    Args:
      config: settings of the run.
      tasks: tasks of the run.
      address: address of the learner's server, host:port.
      on_end, relay: as for `ActorEnd`.

    Raises:
      UserError: as for `ActorEnd`; or the learner has other tasks or settings.
    """
    tensor_leak.stop()
    agent = make_agent(tasks.spec, config)
    end = ActorEnd(
        address,
        tasks.spec,
        agent.core_state_spec,
        config.data.unroll_length,
        agent.trainable_variables,
        timeout=config.launch.connect_timeout,
        relay=relay,
        check=lambda told: agreement.check(told, config, tasks, address),
        on_end=on_end,
    )
    return agent, end


def seeds(config: Config, number: int, learner_step: int) -> tuple[int, int]:
    """Returns the seeds of an actor's environments and of its actions.

    They depend on the learner step, so that an actor that is restarted, by the launcher or because the run is resumed,
    does not play the same games again.
    """
    environment, actions = np.random.SeedSequence([config.run.seed, number, learner_step]).generate_state(2)
    return int(environment >> 1), int(actions)


def run(
    config: Config,
    tasks: TaskSet,
    topology: Topology | Callable[[dict[str, Any]], Topology],
    number: int,
    *,
    address: str,
    ready: Callable[[], None],
    relay: str = "",
    gate: ActorGate | None = None,
    spans: pathlib.Path | None = None,
) -> None:
    """Acts until a signal ends the process; an actor has nothing to save.

    Args:
      config: settings of the run.
      tasks: tasks of the run.
      topology: topology of the run; for an actor started by hand, a function that makes it from what the learner tells.
      number: number of this actor.
      address: address of the learner's server, host:port.
      ready: called when the learner has taken the first unrolls.
      relay: host:port of the relay that it pulls parameters from; "": it pulls them from the learner.
      gate: says how many unrolls the next update takes, after a wait for the last one; None: it never waits.
      spans: CSV file for the spans of its activities; None: no file.

    Raises:
      UserError: as for `connect`; or the environments cannot be made.
    """
    limit_tensorflow(config)
    agent, end = connect(config, tasks, address, leave, relay)
    if relay:
        _LOGGER.info("parameters come from the relay at %s", relay)
    with end:
        resolved = topology if isinstance(topology, Topology) else topology(end.told["topology"])
        if tasks.own_processes and gate is None:
            _act_in_batches(config, tasks, resolved, number, agent, end, ready, spans)
        else:
            _act_in_step(config, tasks, resolved, number, agent, end, ready, gate, spans)


def limit_tensorflow(config: Config) -> None:
    """Leaves the GPU to the learner, and the cores to as many actors as possible. Call it before TensorFlow is used."""
    tf.config.threading.set_intra_op_parallelism_threads(config.launch.actor_threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.set_visible_devices([], "GPU")


def leave(message: str, finished: bool) -> None:
    """Ends the process because the learner has finished, or it or the relay is gone."""
    stream, prefix = (sys.stdout, "") if finished else (sys.stderr, "ERROR: ")
    with contextlib.suppress(OSError):  # Its reader is gone, too.
        print(f"{prefix}{message}", file=stream, flush=True)
    os._exit(0 if finished else 1)  # The main thread may wait in native code that nothing can interrupt.


def make_actor(
    config: Config,
    tasks: TaskSet,
    topology: Topology,
    number: int,
    agent: Agent,
    end: ActorEnd,
    spans: pathlib.Path | None = None,
    beat: Callable[[], None] = parent.beat,
) -> Actor:
    """Makes an actor that steps all its environments together. The caller closes `Actor.environment`.

    Args:
      config: settings of the run.
      tasks: tasks of the run.
      topology: topology of the run.
      number: number of the actor.
      agent: the agent that `connect` returned.
      end: the end that `connect` returned.
      spans: CSV file for the spans of its activities; None: no file.
      beat: called at every step.

    Raises:
      UserError: the environments cannot be made.
    """
    environment_seed, action_seed = seeds(config, number, end.learner_step)
    task_ids = topology.task_ids(number)
    timings = Timings(acting.ACTIVITIES, spans, on_lap=beat)
    environment = task_set.make_batch(tasks, task_ids, environment_seed, topology.env_threads)
    try:
        return Actor(
            environment,
            agent,
            end.writer.write,
            end.refresh,
            config.data.unroll_length,
            action_seed,
            task_ids,
            timings,
        )
    except BaseException:  # It could not be reset.
        environment.close()
        raise


def _act_in_step(config, tasks, topology, number, agent, end, ready, gate: ActorGate | None, spans) -> None:
    """Acts in environments that are stepped together."""
    actor = make_actor(config, tasks, topology, number, agent, end, spans)
    reported = time.monotonic()
    unrolls = 0
    try:
        while True:
            written = actor.run_unroll(gate.due(parent.beat, end.unrolls_arrived) if gate else math.inf)
            unrolls += written
            while not end.writer.flush(timeout=1.0):
                # Back-pressure: the queue is full. `leave` ends the process if the server is gone.
                actor.timings.lap("queue")
            actor.timings.lap("queue")
            if gate:
                gate.sent(written)
            if ready is not None and unrolls:
                ready()
                ready = None
            if time.monotonic() - reported > config.run.log_interval:
                reported = time.monotonic()
                spent = actor.timings.spent
                parent.send(spent)
                _LOGGER.info("%d unrolls in %.0f s: %s", unrolls, spent.elapsed, shares(spent))
    finally:
        actor.environment.close()


def _act_in_batches(config, tasks, topology, number, agent, end, ready, spans) -> None:
    """Acts in environments that have a process each, for whichever of them are waiting."""
    environment_seed, action_seed = seeds(config, number, end.learner_step)
    task_ids = topology.task_ids(number).tolist()
    pool = task_set.make_pool(tasks, task_ids, environment_seed, topology.env_threads)
    steps, learner_step = 0, 0

    def refresh() -> int:
        # Once per unroll, like an actor that steps its environments together: a pull costs more than a policy step.
        nonlocal steps, learner_step
        if steps % config.data.unroll_length == 0:
            learner_step = end.refresh()
        steps += 1
        return learner_step

    batching = DynamicBatching(
        pool,
        agent,
        end.writer,
        refresh,
        config.data.unroll_length,
        task_ids,
        action_seed,
        Timings(dynamic_batching.ACTIVITIES, spans, on_lap=parent.beat),
        parent.send,
        config.run.log_interval,
    )
    try:
        batching.run(ready)
    finally:
        pool.close()

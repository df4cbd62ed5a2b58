"""A training run on the joined cluster: how many processes, what they take of their machines, what they do."""

from __future__ import annotations

import dataclasses
import functools
import logging
import threading
from collections.abc import Sequence

from impala_tf import topology
from impala_tf.architectures import nodes, table
from impala_tf.architectures.program import Node, Program
from impala_tf.config import Config
from impala_tf.environments.task_set import TaskSet
from impala_tf.launch.ray import cluster, driver
from impala_tf.launch.ray.relays import Relays
from impala_tf.records.logdir import LogDir
from impala_tf.topology import LearnerAddress

_LOGGER = logging.getLogger(__name__)


def run(config: Config, tasks: TaskSet, logdir: LogDir, stop: threading.Event) -> None:
    """Trains until the run is finished or `stop` is set.

    A learner takes `learner_threads` CPUs, or 1, and a GPU if the cluster has any; an actor as many CPUs as it has
    threads, which is 1 unless settings say otherwise; a relay none.

    Args:
      config: settings of the run.
      tasks: tasks of the run.
      logdir: folder of the run, checked.
      stop: ends the run early.

    Raises:
      UserError: the tasks cannot share the environments evenly; or as for `driver.run`.
    """
    launch, learners = config.launch, config.launch.num_learners
    cpus, gpus = cluster.processors()
    of_learner = max(launch.learner_threads, 1)
    of_actor = max(launch.actor_threads, config.environment.env_threads, 1)
    room = max(cpus - learners * of_learner, 0) // of_actor
    actors = launch.num_actors if launch.num_actors > 0 else max(room, learners)

    def describe(addresses: Sequence[LearnerAddress], cores: int) -> Program:
        resolved = topology.resolve(
            config, len(tasks.names), addresses, own_processes=tasks.own_processes, told={"num_actors": actors}
        )
        return table.program(
            config,
            tasks,
            # This machine's cores say nothing about those of the others.
            dataclasses.replace(
                resolved,
                env_threads=config.environment.env_threads or 1,
                learner_threads=launch.learner_threads or max(1, cores // 2),
            ),
        )

    def describe_relay(server: str, name: str) -> Node:
        return nodes.relay(config, server, name=name)

    describe([LearnerAddress("localhost:0")] * learners, 1)  # Settings that do not fit, before anything is placed.
    machines = cluster.machines()
    _LOGGER.info("a cluster of %d machine%s with %d CPUs and %d GPUs", machines, "s" * (machines != 1), cpus, gpus)
    if actors > room:
        _LOGGER.info("room for %d of %d actors; the others wait for machines", room, actors)
    if machines > 1:
        _LOGGER.info("--logdir=%s must be on storage that these machines share", logdir.path)
    if gpus == 0:
        _LOGGER.info("no GPUs: learners run on CPUs; start the run again once machines with GPUs are up")
    elif gpus < learners:
        _LOGGER.info("each of %d learners takes a GPU, and there are %d; they wait for machines", learners, gpus)
    place_learner = functools.partial(cluster.place, of_learner, min(gpus, 1), saves=True)
    place_actor = functools.partial(cluster.place, of_actor)
    place_relay = functools.partial(cluster.place, 0)
    driver.run(
        describe,
        [place_learner] * learners,
        [place_actor] * actors,
        logdir,
        stop,
        stall_timeout=launch.stall_timeout,
        relays=Relays(describe_relay, place_relay, logdir.logs, launch.stall_timeout) if launch.relays else None,
    )

"""The learner's process with central inference: it also runs the policy, for environments in other processes."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from impala_tf.acting import dynamic_batching
from impala_tf.acting.dynamic_batching import DynamicBatching
from impala_tf.config import Config
from impala_tf.environments.remote.mailbox import PolicyMailbox
from impala_tf.environments.task_set import TaskSet
from impala_tf.networks.agent import Agent, make_agent
from impala_tf.processes import parent
from impala_tf.processes.timings import Timings
from impala_tf.roles.learner import Training
from impala_tf.topology import Topology
from impala_tf.transport.local_variables import LocalVariables
from impala_tf.transport.writer import UnrollWriter

_STOP_SECONDS = 2.0


def run(
    config: Config,
    tasks: TaskSet,
    topology: Topology,
    stop: threading.Event,
    mailbox: PolicyMailbox,
    spans: pathlib.Path | None = None,
) -> None:
    """Acts in a thread and learns, until the run is finished or `stop` is set.

    Args:
      config, tasks, topology: of the run.
      stop: ends the run early, with a checkpoint.
      mailbox: to the environment processes.
      spans: CSV file for the spans of the learner; None: none.

    Raises:
      UserError: as `Training` and `Training.run`; or the policy is not finite.
    """
    policy: Agent
    variables: LocalVariables

    def make_publisher(_address: str, learned: Sequence[tf.Variable]) -> LocalVariables:
        nonlocal policy, variables
        policy = make_agent(tasks.spec, config)
        variables = LocalVariables(learned, policy.trainable_variables)
        return variables

    with Training(config, tasks, topology, make_publisher=make_publisher, spans=spans) as training:
        inference = DynamicBatching(
            mailbox,
            policy,
            UnrollWriter(training.end.address, tasks.spec.frame_stack),
            variables.refresh,
            config.data.unroll_length,
            task_ids=[topology.task_ids(worker) for worker in range(mailbox.num_workers)],
            seed=int(np.random.SeedSequence([config.run.seed, training.step_count]).generate_state(1)[0]),
            timings=Timings(dynamic_batching.ACTIVITIES),
            report=parent.send,
            log_interval=config.run.log_interval,
        )
        inference.start()
        try:
            training.run(stop, check=inference.check)
        finally:
            inference.stop(_STOP_SECONDS)

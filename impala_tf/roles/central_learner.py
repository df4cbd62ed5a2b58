"""The learner's process with central inference: it also runs the policy for environments in other processes."""

from __future__ import annotations

import contextlib
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
from impala_tf.transport.signatures import unroll_signature
from impala_tf.transport.writer import UnrollWriter

_STOP_SECONDS = 2.0


def run(
    config: Config,
    tasks: TaskSet,
    topology: Topology,
    stop: threading.Event,
    mailbox: PolicyMailbox,
    spans: tuple[pathlib.Path | None, pathlib.Path | None] = (None, None),
) -> None:
    """Acts in a thread and learns, until the run is finished or `stop` is set.

    Args:
      config: settings of the run.
      tasks: tasks of the run.
      topology: topology of the run.
      stop: ends the run early, with a checkpoint.
      mailbox: connects to the environment processes.
      spans: CSV files for the spans of learning and of acting; None: no file.

    Raises:
      UserError: as for `Training` and `Training.run`; or the policy is not finite.
    """
    policy: Agent
    variables: LocalVariables

    def make_publisher(_address: str, learned: Sequence[tf.Variable]) -> LocalVariables:
        nonlocal policy, variables
        policy = make_agent(tasks.spec, config)
        variables = LocalVariables(learned, policy.trainable_variables)
        return variables

    with (
        Training(config, tasks, topology, make_publisher=make_publisher, spans=spans[0]) as training,
        contextlib.closing(
            UnrollWriter(
                training.end.address,
                unroll_signature(tasks.spec, training.agent.core_state_spec, config.data.unroll_length),
                replay=config.data.replay_fraction > 0,
            )
        ) as writer,
    ):
        inference = DynamicBatching(
            mailbox,
            policy,
            writer,
            variables.refresh,
            config.data.unroll_length,
            task_ids=[topology.task_ids(worker) for worker in range(mailbox.num_workers)],
            seed=int(np.random.SeedSequence([config.run.seed, training.step_count]).generate_state(1)[0]),
            timings=Timings(dynamic_batching.ACTIVITIES, spans[1]),
            report=parent.send,
            log_interval=config.run.log_interval,
        )
        inference.start()
        try:
            training.run(stop, check=inference.check)
        finally:
            inference.stop(_STOP_SECONDS)

"""The learner's process in batched A2C where it acts itself, for environments in other processes: by turns."""

from __future__ import annotations

import pathlib
import threading

import numpy as np

from impala_tf.acting import actor as acting
from impala_tf.acting.actor import Actor
from impala_tf.acting.trajectory_rounds import TrajectoryRounds
from impala_tf.config import Config
from impala_tf.environments.remote.lockstep import Lockstep
from impala_tf.environments.remote.mailbox import PolicyMailbox
from impala_tf.environments.task_set import TaskSet
from impala_tf.processes.timings import Timings
from impala_tf.roles import actor as actor_role
from impala_tf.roles import in_turns
from impala_tf.roles.learner import Training
from impala_tf.topology import Topology

_RESTART_SECONDS = 60.0  # Twice the launcher's longest pause before a restart.


def run(
    config: Config,
    tasks: TaskSet,
    topology: Topology,
    stop: threading.Event,
    mailbox: PolicyMailbox,
    spans: tuple[pathlib.Path | None, pathlib.Path | None] = (None, None),
    dynamic_batches: bool = False,
) -> None:
    """Alternates between one unroll of every environment and an update, until the run is finished or `stop` is set.

    Args:
      config: settings of the run.
      tasks: tasks of the run.
      topology: topology of the run.
      stop: ends the run early, with a checkpoint.
      mailbox: connects to the environment processes.
      spans: CSV files for the spans of learning and of acting; None: no file.
      dynamic_batches: act for those environments that are waiting, until each has its unroll; otherwise for all at each
        step, once the last has answered.

    Raises:
      UserError: as for `Training`, `connect` and `in_turns.run`.
      EnvironmentFailed: an environment process did not answer in time.
    """
    with Training(config, tasks, topology, spans=spans[0]) as training:
        agent, end = actor_role.connect(config, tasks, training.end.address)
        with end:
            _, action_seed = actor_role.seeds(config, 0, end.learner_step)
            # Long enough for a process to hang, to be restarted, and to start slowly.
            deadline = 2 * tasks.deadline + _RESTART_SECONDS
            beat = in_turns.Beat(config, stop)
            timings = Timings(acting.ACTIVITIES, spans[1], on_lap=beat)
            task_ids = [topology.task_ids(number) for number in range(topology.num_actors)]
            unroll_length, write = config.data.unroll_length, end.writer.write
            actor: in_turns.Acts
            if dynamic_batches:
                actor = TrajectoryRounds(
                    mailbox, deadline, agent, write, end.refresh, unroll_length, action_seed, task_ids, timings
                )
            else:
                environment = Lockstep(mailbox, deadline, beat=beat)
                ids = np.concatenate(task_ids)
                actor = Actor(environment, agent, write, end.refresh, unroll_length, action_seed, ids, timings)
            in_turns.run(config, training, actor, end, stop, beat)

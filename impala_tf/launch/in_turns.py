"""Runs learner and actor in one process and thread, with a real Reverb server, for debuggers and profilers."""

from __future__ import annotations

import threading

from impala_tf.config import Config
from impala_tf.environments.task_set import TaskSet
from impala_tf.roles import actor as actor_role
from impala_tf.roles import in_turns
from impala_tf.roles.learner import Training
from impala_tf.topology import Topology


def run(config: Config, tasks: TaskSet, topology: Topology, stop: threading.Event) -> None:
    """Trains until the run is finished or `stop` is set.

    Args:
      config: settings of the run.
      tasks: tasks of the run.
      topology: topology of the run; one actor with `envs_per_actor` environments acts.
      stop: ends the run early, with a checkpoint.

    Raises:
      UserError: as for `Training`, `connect`, `make_actor` and `impala_tf.roles.in_turns.run`.
    """
    with Training(config, tasks, topology) as training:
        agent, end = actor_role.connect(config, tasks, training.end.address)
        with end:
            beat = in_turns.Beat(config, stop)
            actor = actor_role.make_actor(config, tasks, topology, 0, agent, end, beat=beat)
            try:
                in_turns.run(config, training, actor, end, stop, beat)
            finally:
                actor.environment.close()

"""The run to measure, with all its settings resolved."""

from __future__ import annotations

import dataclasses
from typing import Any

from impala_tf import topology
from impala_tf.config import Config
from impala_tf.environments import task_set
from impala_tf.environments.task_set import TaskSet
from impala_tf.topology import Topology
from impala_tf.transport import ports


@dataclasses.dataclass(frozen=True)
class Setup:
    """A run's settings, tasks and processes.

    Attributes:
      config: the settings.
      tasks: the tasks.
      topology: the processes; the address has a free port of this machine.
    """

    config: Config
    tasks: TaskSet
    topology: Topology

    @property
    def frames_per_unroll(self) -> int:
        """The environment frames of an unroll's T steps."""
        return self.config.data.unroll_length * self.tasks.spec.frames_per_step

    @property
    def policy_in_learner(self) -> bool:
        """Whether the learner's process acts for all environments, on its device; otherwise actors do, on the CPU."""
        launch = self.config.launch
        return launch.inference == "central" or launch.architecture == "batched_a2c_sync_step"

    @property
    def policy_batch(self) -> int:
        """Environments for which the policy acts at once: one actor's, or at most all where it is in the learner."""
        return self.topology.envs_per_actor * (self.topology.num_actors if self.policy_in_learner else 1)

    def with_run(self, **values: Any) -> Setup:
        """Returns a copy with other settings in `config.run`."""
        run = dataclasses.replace(self.config.run, **values)
        return dataclasses.replace(self, config=dataclasses.replace(self.config, run=run))

    def with_actors(self, num_actors: int) -> Setup:
        """Returns a copy with another number of actors, each with as many environments as before.

        Where a batch says how many environments there are in all, they are divided among the actors.
        """
        each = 0 if self.config.unrolls_together else self.topology.envs_per_actor
        launch = dataclasses.replace(self.config.launch, num_actors=num_actors, envs_per_actor=each)
        return resolve(dataclasses.replace(self.config, launch=launch), self.tasks)


def resolve(config: Config, tasks: TaskSet | None = None) -> Setup:
    """Resolves a run's settings on this machine, with a free port.

    Args:
      config: the settings.
      tasks: the tasks, if they have been resolved already.

    Raises:
      UserError: raised by `task_set.resolve` or `topology.resolve`.
    """
    if tasks is None:
        tasks = task_set.resolve(config.environment)
        task_set.check(tasks)
    learners = ports.on_this_machine(config.launch)
    return Setup(config, tasks, topology.resolve(config, len(tasks.names), learners, own_processes=tasks.own_processes))

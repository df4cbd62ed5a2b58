"""The architectures by name, as `--architecture` gives it."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Protocol

from impala_tf.architectures import a3c, batched_a2c, impala
from impala_tf.architectures.program import Program
from impala_tf.config import Config
from impala_tf.environments.task_set import TaskSet
from impala_tf.processes import imports
from impala_tf.topology import Topology


class Architecture(Protocol):
    """Returns the program of a run."""

    def __call__(
        self, config: Config, tasks: TaskSet, topology: Topology, spans: pathlib.Path | None = None
    ) -> Program:
        """Describes the processes of a run; starts nothing.

        Args:
          config: settings of the run.
          tasks: tasks of the run.
          topology: topology of the run.
          spans: existing folder in which each process records the spans of its activities; None: none does.

        Raises:
          UserError: the settings do not fit the architecture.
        """


ARCHITECTURES: dict[str, Architecture] = {
    "impala": impala.program,
    "batched_a2c_sync_step": batched_a2c.sync_step,
    "batched_a2c_sync_trajectory": batched_a2c.sync_trajectory,
    "a3c": a3c.program,
}


def program(config: Config, tasks: TaskSet, topology: Topology, spans: pathlib.Path | None = None) -> Program:
    """Returns the program of a run with the architecture that its settings name; arguments as for `Architecture`."""
    return ARCHITECTURES[config.launch.architecture](config, tasks, topology, spans)


def by_hand(config: Config) -> tuple[Callable[..., None], Callable[..., None]]:
    """Returns what --role=learner and --role=actor run: `run` of the role. Imports TensorFlow and Reverb."""
    with imports.quickly():
        from impala_tf.roles import a3c_learner, a3c_worker, actor, learner

    if config.launch.architecture == "a3c":
        return a3c_learner.run, a3c_worker.run
    return learner.run, actor.run

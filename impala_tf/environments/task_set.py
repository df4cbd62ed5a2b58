"""The tasks of a run, and the environments in which an actor plays them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from impala_tf import environments
from impala_tf.config import EnvironmentConfig
from impala_tf.environments.base import BatchedEnvironment, check_same_spec
from impala_tf.environments.multi_task import MultiTaskEnvironment
from impala_tf.environments.remote.lockstep import Lockstep
from impala_tf.environments.remote.pool import WorkerPool
from impala_tf.structures import EnvironmentSpec
from impala_tf.suites.tasks import names as task_names


@dataclasses.dataclass(frozen=True)
class TaskSet:
    """What a run plays; resolved once by the process that starts the run, and passed to the others.

    Attributes:
      names: environment ids. A task's index is its id in the trajectories.
      options: of `environments.make`.
      spec: of every task's environments.
      own_processes: whether every environment gets a process of its own, because it is slow or its engine cannot share
        a process.
      deadline: seconds in which an environment in a process of its own must answer.
    """

    names: tuple[str, ...]
    options: dict[str, Any]
    spec: EnvironmentSpec
    own_processes: bool
    deadline: float


def resolve(config: EnvironmentConfig, spec: EnvironmentSpec | None = None) -> TaskSet:
    """Determines a run's tasks and their spec.

    Makes one environment of the first task and closes it; `check` looks at the others.

    Args:
      config: settings of the environments.
      spec: if it is known already; no environment is made then.

    Raises:
      UserError: as `tasks.names` and `environments.make`.
    """
    names = task_names(config.env)
    options = config.options()
    # So that games can share a network, each has all 18 actions, used or not (Appendix G).
    options["full_action_set"] = options["full_action_set"] or len(names) > 1
    own_processes = config.env_processes == "on" or (
        config.env_processes == "auto" and any(environments.needs_process(name) for name in names)
    )
    spec = spec or environments.spec(names[0], **options)
    return TaskSet(names, options, spec, own_processes, config.env_deadline)


def check(tasks: TaskSet) -> None:
    """Finds out what would keep a task from being played here, together with the others.

    Makes an environment of each task in turn and closes it, except where another's spec holds for the whole family.

    Raises:
      UserError: as `environments.check` and `environments.spec`; or a task has another spec than the first.
    """
    for name in tasks.names:
        environments.check(name, **tasks.options)
    seen = {environments.kind(tasks.names[0])}
    for name in tasks.names:
        if environments.kind(name) not in seen:
            check_same_spec(name, environments.spec(name, **tasks.options), tasks.spec)
            seen.add(environments.kind(name))


def make_pool(tasks: TaskSet, task_ids: Sequence[int], seed: int, threads: int) -> WorkerPool:
    """Makes the environments of an actor, each in a process of its own; those that fail are restarted.

    Args:
      tasks: of the run.
      task_ids: [N], the task of each environment.
      seed: each environment derives its own from it.
      threads: the actor's share of the cores; as many environments are started at the same time.
    """
    env_ids = [tasks.names[task] for task in task_ids]
    return WorkerPool(tasks.spec, env_ids, tasks.options, seed, tasks.deadline, starts_at_once=threads)


def make_batch(tasks: TaskSet, task_ids: np.ndarray, seed: int, threads: int) -> BatchedEnvironment:
    """Makes the environments of an actor, stepped together.

    Args:
      tasks: of the run.
      task_ids: int32 [B], ascending: the task of each environment.
      seed: each environment derives its own from it.
      threads: number of threads that step Atari games, and of processes that are started at the same time.

    Raises:
      UserError: as `environments.make`, or the tasks have different specs. With `own_processes`, `reset` raises it.
    """
    if tasks.own_processes:
        pool = make_pool(tasks, task_ids.tolist(), seed, threads)
        return Lockstep(pool, tasks.deadline, pool.close)
    if len(tasks.names) == 1:
        return environments.make(tasks.names[0], len(task_ids), seed, **{**tasks.options, "env_threads": threads})

    def make_task(task: int, num_envs: int, restarts: int) -> BatchedEnvironment:
        own_seed = int(np.random.SeedSequence([seed, task, restarts]).generate_state(1)[0] >> 1)
        options = {**tasks.options, "env_threads": min(threads, num_envs)}
        return environments.make(tasks.names[task], num_envs, own_seed, **options)

    return MultiTaskEnvironment(tasks.spec, tasks.names, task_ids, make_task)

"""How a run is laid out on this machine when the flags leave it open."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from impala_tf import environments
from impala_tf.suites import tasks
from impala_tf.config import Config
from impala_tf.environments.remote.pool import WorkerPool
from impala_tf.environments.base import BatchedEnvironment
from impala_tf.environments.multi_task import MultiTaskEnvironment
from impala_tf.errors import UserError
from impala_tf.structures import EnvironmentSpec


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def num_actors(config: Config) -> int:
    """Actor processes: one per core, so that some environments step while other actors wait for inference."""
    return cores() if config.run.num_actors < 0 else config.run.num_actors


def envs_per_actor(config: Config) -> int:
    """Environments of one actor: 12, and fewer where there are many actors, since all of them are policy lag.

    More would make a policy step cheaper per environment, and the start slower: every instance of an Atari game loads
    its ROM twice, which costs far more than a step. With many tasks, it is the next number that gives all of them the
    same share.
    """
    if config.run.envs_per_actor:
        return config.run.envs_per_actor
    return -(-max(8, min(12, 512 // max(num_actors(config), 1))) // _even_share(config)) * _even_share(config)


def task_ids(config: Config, actor_id: int | None = None) -> np.ndarray:
    """int32 [B], ascending: the task of each environment of an actor, by default of the one that `config` is for.

    The environments of all actors are numbered through and take the tasks in turns, so that each task has the same
    number of them (two differ by one at most), whatever the number of actors.
    """
    actor_id = config.run.actor_id if actor_id is None else actor_id
    first = actor_id * envs_per_actor(config)
    numbers = np.arange(first, first + envs_per_actor(config))
    return np.sort(numbers % len(tasks.names(config.environment.env))).astype(np.int32)


def _even_share(config: Config) -> int:
    """An actor must have a multiple of these environments if all tasks are to have the same number of them."""
    num_tasks = len(tasks.names(config.environment.env))
    return num_tasks // math.gcd(num_tasks, max(num_actors(config), 1))


def check(config: Config) -> None:
    """Tells what is wrong with a run's environments before anything slow is started.

    Raises:
      UserError: as `environments.make`, or the tasks cannot share the environments evenly.
    """
    names = tasks.names(config.environment.env)
    for name in names:
        environments.check(name, **environment_options(config))
    environment_spec(config)
    share = _even_share(config)
    if config.run.role == "all" and envs_per_actor(config) % share:
        raise UserError(
            f"--envs_per_actor={envs_per_actor(config)}: {len(names)} tasks cannot share the environments of "
            f"{num_actors(config)} actors evenly; use a multiple of {share}."
        )


def environment_spec(config: Config) -> EnvironmentSpec:
    """What the environments of the run look like to an agent, told from one of the first task; raises as `make`."""
    return environments.spec(tasks.names(config.environment.env)[0], **environment_options(config))


def env_threads(config: Config) -> int:
    """Threads that step one actor's environments: its share of the cores, at least one."""
    return config.environment.env_threads or max(1, cores() // max(num_actors(config), 1))


def make_environments(config: Config, seed: int, warn: Callable[[str], None]) -> BatchedEnvironment:
    """The environments of the actor that `config` is for, to be stepped together; raises as `environments.make`.

    `warn` is told of tasks that fail later, and are started again.
    """
    names = tasks.names(config.environment.env)
    options = {**environment_options(config), "env_threads": env_threads(config), "processes": in_processes(config)}
    options["deadline"] = config.environment.env_deadline
    if len(names) == 1:
        return environments.make(names[0], envs_per_actor(config), seed, **options)

    def make_task(task: int, num_envs: int, times_before: int) -> BatchedEnvironment:
        own_seed = int(np.random.SeedSequence([seed, task, times_before]).generate_state(1)[0] >> 1)
        threads = min(env_threads(config), num_envs)
        return environments.make(names[task], num_envs, own_seed, **{**options, "env_threads": threads})

    return MultiTaskEnvironment(environment_spec(config), names, task_ids(config), make_task, warn)


def in_processes(config: Config) -> bool:
    """Whether every environment has a process of its own: where it is slow, or more than one break in a process."""
    choice = config.environment.env_processes
    return choice == "on" or (
        choice == "auto" and any(environments.needs_process(name) for name in tasks.names(config.environment.env))
    )


def make_pool(config: Config, spec: EnvironmentSpec, seed: int, warn: Callable[[str], None]) -> WorkerPool:
    """The environments of the actor that `config` is for, of that `spec`, each in a process of its own.

    `warn` is told of those that fail, and are started again.
    """
    names = tasks.names(config.environment.env)
    env_ids = [names[task] for task in task_ids(config)]
    return WorkerPool(spec, env_ids, environment_options(config), seed, config.environment.env_deadline, warn)


def environment_options(config: Config) -> dict[str, Any]:
    """The options of `environments.make`. Games share a network by having all actions, used or not (Appendix G)."""
    options = config.environment_options()
    several = len(tasks.names(config.environment.env)) > 1
    return {**options, "full_action_set": options["full_action_set"] or several}


def learner_threads(config: Config) -> int:
    """Intra-op threads of the learner: one for every actor's core left over, at least one."""
    return config.run.learner_threads or max(1, cores() // 2)

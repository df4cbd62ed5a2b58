"""How a run is laid out on this machine when the flags leave it open."""

from __future__ import annotations

import os

from impala_tf import environments
from impala_tf.config import Config
from impala_tf.environments.base import BatchedEnvironment


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def num_actors(config: Config) -> int:
    """Actor processes: one per core, so that some environments step while other actors wait for inference."""
    return cores() if config.run.num_actors < 0 else config.run.num_actors


def envs_per_actor(config: Config) -> int:
    """Environments of one actor: 12, and fewer where there are many actors, since all of them are policy lag.

    More would make a policy step cheaper per environment, and the start slower: every instance of an Atari game loads
    its ROM twice, which costs far more than a step.
    """
    return config.run.envs_per_actor or max(8, min(12, 512 // max(num_actors(config), 1)))


def env_threads(config: Config) -> int:
    """Threads that step one actor's environments: its share of the cores, at least one."""
    return config.environment.env_threads or max(1, cores() // max(num_actors(config), 1))


def make_environments(config: Config, seed: int) -> BatchedEnvironment:
    """The environments of one actor; raises as `environments.make`."""
    options = {**config.environment_options(), "env_threads": env_threads(config)}
    return environments.make(num_envs=envs_per_actor(config), seed=seed, **options)


def learner_threads(config: Config) -> int:
    """Intra-op threads of the learner: one for every actor's core left over, at least one."""
    return config.run.learner_threads or max(1, cores() // 2)

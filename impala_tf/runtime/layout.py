"""How a run is laid out on this machine when the flags leave it open."""

from __future__ import annotations

import os

from impala_tf.config import Config


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


def learner_threads(config: Config) -> int:
    """Intra-op threads of the learner: one for every actor's core left over, at least one."""
    return config.run.learner_threads or max(1, cores() // 2)

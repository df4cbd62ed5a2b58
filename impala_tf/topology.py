"""Who there is in a run, and where: resolved once by whoever starts the run, then handed down as a value."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from impala_tf.config import LaunchConfig
from impala_tf.errors import UserError
from impala_tf.machine import cores


@dataclasses.dataclass(frozen=True)
class Topology:
    """The processes of a run and their shares of the work.

    Attributes:
      address: of the learner's server, host:port.
      num_actors: actor processes, on all machines.
      envs_per_actor: B, environments of each actor.
      num_tasks: tasks that the environments of all actors share.
      env_threads: threads that step one actor's environments.
      actor_threads: intra-op threads of one actor's inference.
      learner_threads: intra-op threads of the learner.
    """

    address: str
    num_actors: int
    envs_per_actor: int
    num_tasks: int
    env_threads: int
    actor_threads: int
    learner_threads: int

    def task_ids(self, actor: int) -> np.ndarray:
        """The task of each environment of an actor, int32 [B], ascending.

        The environments of all actors are numbered through and take the tasks in turns, so that each task has the same
        number of them (two differ by one at most), whatever the number of actors.
        """
        first = actor * self.envs_per_actor
        return np.sort(np.arange(first, first + self.envs_per_actor) % self.num_tasks).astype(np.int32)

    def told(self) -> dict[str, int]:
        """What the learner tells actors that were started by hand; see `resolve`."""
        return {"num_actors": self.num_actors, "envs_per_actor": self.envs_per_actor}


def resolve(
    launch: LaunchConfig, num_tasks: int, address: str, *, env_threads: int = 0, told: dict[str, Any] | None = None
) -> Topology:
    """Fills in what the flags leave open: from what the learner told, or else from this machine's cores.

    Args:
      launch: the flags.
      num_tasks: of the run.
      address: of the learner's server.
      env_threads: the flag; 0: an actor's share of the cores.
      told: `Topology.told` of the learner, for an actor that was started by hand: its own machine says nothing about
        the run. None on the machine that starts the run.

    Raises:
      UserError: the tasks cannot share the environments evenly, where the whole run is started here.
    """
    told = told or {}
    num_actors = launch.num_actors if launch.num_actors >= 0 else told.get("num_actors", cores())
    # An actor must have a multiple of `share` environments if all tasks are to have the same number of them.
    share = num_tasks // math.gcd(num_tasks, max(num_actors, 1))
    envs_per_actor = launch.envs_per_actor or told.get("envs_per_actor") or _envs_per_actor(num_actors, share)
    if launch.role == "all" and envs_per_actor % share:
        raise UserError(
            f"--envs_per_actor={envs_per_actor}: {num_tasks} tasks cannot share the environments of {num_actors} "
            f"actors evenly; use a multiple of {share}."
        )
    return Topology(
        address=address,
        num_actors=num_actors,
        envs_per_actor=envs_per_actor,
        num_tasks=num_tasks,
        env_threads=env_threads or max(1, cores() // max(num_actors, 1)),
        actor_threads=launch.actor_threads,
        learner_threads=launch.learner_threads or max(1, cores() // 2),
    )


def _envs_per_actor(num_actors: int, share: int) -> int:
    """12 environments, and fewer where there are many actors, since all of them are policy lag.

    More would make a policy step cheaper per environment, and the start slower: every instance of an Atari game loads
    its ROM twice, which costs far more than a step. With many tasks, the next multiple of `share`.
    """
    return -(-max(8, min(12, 512 // max(num_actors, 1))) // share) * share

"""The processes of a run and their shares of the work, resolved once by whoever starts the run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from impala_tf.config import Config, LaunchConfig
from impala_tf.errors import UserError
from impala_tf.machine import cores


class LearnerAddress(NamedTuple):
    """Where a learner is reached.

    Attributes:
      server: host:port of its Reverb server, to which actors send.
      exchange: host:port at which learners exchange gradients; "" if there is only one.
    """

    server: str
    exchange: str = ""


def alone(server: str) -> tuple[LearnerAddress]:
    """Returns the addresses of a run's only learner, whose server is at host:port."""
    return (LearnerAddress(server),)


@dataclasses.dataclass(frozen=True)
class Topology:
    """The processes of a run and their shares of the work.

    Attributes:
      learners: the learners' addresses; an actor started by hand knows its own learner's only.
      num_actors: number of actor processes, on all machines; 0 if the learner's process acts itself.
      envs_per_actor: B, number of environments of each actor.
      num_tasks: number of tasks that the environments of all actors share.
      env_threads: threads that step one actor's environments.
      learner_threads: intra-op threads of each learner.
    """

    learners: tuple[LearnerAddress, ...]
    num_actors: int
    envs_per_actor: int
    num_tasks: int
    env_threads: int
    learner_threads: int

    def server_of(self, actor: int) -> str:
        """Returns host:port of the learner's server that an actor sends to and pulls parameters from: in turn."""
        return self.learners[actor % len(self.learners)].server

    def task_ids(self, actor: int) -> np.ndarray:
        """Returns the task of each environment of an actor, int32 [B], ascending.

        The environments of all actors are numbered consecutively and take the tasks in turn, so the numbers of
        environments of two tasks differ by at most one, whatever the number of actors.
        """
        first = actor * self.envs_per_actor
        return np.sort(np.arange(first, first + self.envs_per_actor) % self.num_tasks).astype(np.int32)

    def told(self) -> dict[str, int]:
        """Returns what the learner tells actors that were started by hand, for `resolve`."""
        return {"num_actors": self.num_actors, "envs_per_actor": self.envs_per_actor}


def resolve(
    config: Config,
    num_tasks: int,
    learners: Sequence[LearnerAddress],
    *,
    own_processes: bool = False,
    told: dict[str, Any] | None = None,
) -> Topology:
    """Fills in what the flags leave open: from what the learner told, or else from this machine's cores.

    Args:
      config: settings of the run.
      num_tasks: number of tasks of the run.
      learners: the learners' addresses; of an actor started by hand, its own learner's.
      own_processes: whether every environment is in a process of its own, with memory of its own.
      told: the learner's `Topology.told`, for an actor that was started by hand, since its own machine's cores say
        nothing about the run. None on the machine that starts the run.

    Raises:
      UserError: the whole run is started here, and the tasks cannot share the environments evenly; or the number of
        environments is not `config.unrolls_together`.
    """
    told, launch, together = told or {}, config.launch, config.unrolls_together
    num_actors = launch.num_actors
    if num_actors < 0:
        num_actors = told.get("num_actors", max(_num_actors(together), launch.num_learners))
    # All tasks have the same number of environments if each actor has a multiple of `share` of them.
    share = num_tasks // math.gcd(num_tasks, max(num_actors, 1))
    envs_per_actor = launch.envs_per_actor or told.get("envs_per_actor") or together // max(num_actors, 1)
    envs_per_actor = envs_per_actor or _envs_per_actor(config, num_actors, own_processes, share)
    if together:
        _check_together(config, num_tasks, num_actors, envs_per_actor)
    elif launch.role == "all" and envs_per_actor % share:
        raise UserError(
            f"--envs_per_actor={envs_per_actor}: {num_tasks} tasks cannot share the environments of {num_actors} "
            f"actors evenly; use a multiple of {share}."
        )
    return Topology(
        learners=tuple(learners),
        num_actors=num_actors,
        envs_per_actor=envs_per_actor,
        num_tasks=num_tasks,
        env_threads=config.environment.env_threads or _env_threads(launch, num_actors, told),
        # Where actors wait for updates, the learner has the machine to itself meanwhile.
        learner_threads=launch.learner_threads
        or (cores() if together else max(1, cores() // (2 * launch.num_learners))),
    )


def _num_actors(together: int) -> int:
    """Returns one actor per core, or the most below that which can share `together` environments evenly."""
    return max(n for n in range(1, cores() + 1) if together % n == 0)


def _check_together(config: Config, num_tasks: int, num_actors: int, envs_per_actor: int) -> None:
    """Checks that the actors have `config.unrolls_together` environments, which the tasks share evenly.

    Raises:
      UserError: they have not; names numbers that work, if there are any near.
    """
    data, together, actors = config.data, config.unrolls_together, max(num_actors, 1)
    fresh = "fresh " if data.replay_fraction else ""
    if together % num_tasks:
        raise UserError(
            f"--batch_size={data.batch_size}: {num_tasks} tasks cannot share its {together} {fresh}unrolls evenly, one "
            f"of each environment; they must be a multiple of {num_tasks}."
        )
    environments = actors * envs_per_actor
    if environments == together:
        return
    ways, chosen = [], bool(config.launch.envs_per_actor)
    batch_size = round(environments / (1 - data.replay_fraction))
    if environments % num_tasks == 0 and batch_size * (1 - data.replay_fraction) == environments:
        shares = (
            f"{actors} actor{'s' * (actors > 1)} with {envs_per_actor} environment{'s' * (envs_per_actor > 1)} each"
        )
        ways.append(f"--batch_size to {batch_size} ({shares})")
    if chosen and together % actors == 0:
        ways.append(f"--envs_per_actor to {together // actors}")
    if num_actors:
        fits = [n for n in range(1, together + 1) if together % n == 0]
        fits = [n for n in fits if not chosen or n * envs_per_actor == together]
        nearest = sorted(sorted(fits, key=lambda n: abs(n - actors))[:3])
        ways += [f"--num_actors to {' or '.join(map(str, nearest))}"] * bool(nearest)
    hint = f"set {', or '.join(ways)}" if ways else "choose another --batch_size, --num_actors or --envs_per_actor"
    raise UserError(f"{together} {fresh}unrolls a batch, one of each environment, do not fit: {hint}.")


def _env_threads(launch: LaunchConfig, num_actors: int, told: dict[str, Any]) -> int:
    """Returns an actor's share of this machine's cores; 1 if it is not known how many actors share them."""
    if told and launch.num_actors < 0:
        return 1
    return max(1, cores() // max(num_actors, 1))


def _envs_per_actor(config: Config, num_actors: int, own_processes: bool, share: int) -> int:
    """Returns 12 to 24, or less with very many actors, but 1 in A3C; rounded up to a multiple of `share`.

    More environments make a policy step cheaper for each, but add policy lag: there are more than 12 only while all of
    them together have no more unrolls than one and a half batches. Environments in processes take much more memory.
    """
    if config.launch.architecture == "a3c":
        wanted = 1
    elif num_actors == 0:
        wanted = 12
    else:
        batch_size = config.data.fresh_batch_size * config.launch.num_learners
        most = 12 if own_processes else max(12, min(24, 3 * batch_size // (2 * num_actors)))
        wanted = max(8, min(most, 512 // num_actors))
    return -(-wanted // share) * share

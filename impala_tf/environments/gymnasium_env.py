"""Any Gymnasium environment with discrete actions, in this process or in processes of its own."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from impala_tf.environments.base import BatchedEnvironment, Games, instance_seeds
from impala_tf.errors import UserError
from impala_tf.structures import ArraySpec, EnvironmentOutput, EnvironmentSpec


class GymnasiumEnvironment(BatchedEnvironment):
    """Instances of one Gymnasium environment.

    Observations: see `AgentObservation`; images, vectors, and either with an instruction. Time limits are reported as
    `truncated`.

    Args:
      env_id: "gymnasium/<id>", where <id> is Gymnasium's, "CartPole-v1", or "package:id" where a package must be
        imported to register it. With `make_one`, any id: it is for messages.
      num_envs: instances.
      seed: each instance derives its own from it.
      make_one: makes one instance, a `gymnasium.Env`; with `processes`, a function of a module or a
        `functools.partial` of one.
      frames_per_step: environment frames of an agent step, where the environment repeats actions. A Gymnasium id does
        not tell of that.
      processes: each instance in a process of its own instead of one after the other in this one. The processes start
        with `reset`. As with all of `multiprocessing`, a script that does this needs `if __name__ == "__main__":`.
      deadline: seconds in which the instances in processes must have answered, be it to `reset` or to `step`.

    Raises:
      UserError: unknown id, missing package, actions that are not discrete, observations that an agent cannot read.
      EnvironmentFailed: an instance in a process of its own died, raised or did not answer.
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int,
        seed: int,
        *,
        make_one: Callable[[], Any] | None = None,
        frames_per_step: int = 1,
        processes: bool = False,
        deadline: float = 300.0,
    ):
        make = functools.partial(_make, env_id, make_one)
        self._env: Any = None
        observations: Any
        actions: Any
        if processes:
            from impala_tf.environments.processes import Instances, describe

            spaces = describe(env_id, make, deadline)
            self._start = functools.partial(Instances, env_id, make, spaces, num_envs, deadline)
            observations, actions = spaces
        else:
            from gymnasium.vector import AutoresetMode, SyncVectorEnv

            self._env = SyncVectorEnv([make] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)
            observations, actions = self._env.single_observation_space, self._env.single_action_space
        self._in_processes = processes
        self.spec = EnvironmentSpec(_spec(observations), int(actions.n), frames_per_step)
        self.num_envs = num_envs
        self._first_action = int(actions.start)
        self._seeds = instance_seeds(seed, num_envs).tolist()
        self._games = Games(num_envs)

    def reset(self) -> EnvironmentOutput:
        if self._in_processes:
            self._env = self._env or self._start()
            self._env.reset_async(seed=self._seeds)
            observation, _ = self._env.answer()
        else:
            observation, _ = self._env.reset(seed=self._seeds)
        return self._games.first_output(observation)

    def send(self, actions: np.ndarray) -> None:
        self._actions = self._check(actions) + self._first_action
        if self._in_processes:
            self._env.step_async(self._actions)

    def receive(self) -> EnvironmentOutput:
        answer = self._env.answer() if self._in_processes else self._env.step(self._actions)
        observation, reward, terminated, truncated, _ = answer
        truncated &= ~terminated  # An end is an end, even when the clock ran out with it.
        return self._games.output(observation, reward, terminated, truncated, terminated | truncated)

    def close(self) -> None:
        if self._env is not None:
            self._env.close()


def _make(env_id: str, make_one: Callable[[], Any] | None) -> Any:
    """One instance, with observations that an agent can read. Runs in the instance's process."""
    import gymnasium

    from impala_tf.environments.observations import AgentObservation

    gymnasium.logger.min_level = gymnasium.logger.ERROR  # Its warnings are for who writes an environment.
    name = env_id.removeprefix("gymnasium/")
    try:
        env = make_one() if make_one else gymnasium.make(name, disable_env_checker=True)
    except (gymnasium.error.Error, ImportError) as error:
        raise _user_error(env_id, name, error) from error
    try:
        return AgentObservation(env, env_id)
    except UserError:
        env.close()
        raise


def _spec(space: Any) -> Any:
    if hasattr(space, "spaces"):
        return {key: _spec(entry) for key, entry in space.items()}
    return ArraySpec(space.shape, space.dtype)


def known_ids() -> list[str]:
    """The ids that Gymnasium knows without importing another package, less ALE's, which atari/<game> serves better."""
    import gymnasium

    return [name for name, spec in gymnasium.registry.items() if not str(spec.entry_point).startswith("ale_py")]


def _user_error(env_id: str, name: str, error: Exception) -> UserError:
    """What a user can do about an environment that Gymnasium could not make."""
    import gymnasium

    if isinstance(error, (gymnasium.error.DependencyNotInstalled, ImportError)):
        return UserError(f"{env_id} needs a package that is not installed: {error}")
    if isinstance(error, gymnasium.error.UnregisteredEnv):
        near = difflib.get_close_matches(name, known_ids())
        hint = f"Did you mean {' or '.join(f'gymnasium/{n}' for n in near)}? " if near else ""
        return UserError(
            f"unknown Gymnasium id {name!r}. {hint}An id that a package registers when it is imported is written "
            f"gymnasium/<package>:<id>, for example gymnasium/minigrid:MiniGrid-Empty-5x5-v0."
        )
    return UserError(f"{env_id} cannot be made: {error}")

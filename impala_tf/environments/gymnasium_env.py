"""Any Gymnasium environment with discrete actions and array observations."""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np

from impala_tf.environments.base import BatchedEnvironment, Games, instance_seeds
from impala_tf.errors import UserError
from impala_tf.structures import ArraySpec, EnvironmentOutput, EnvironmentSpec


class GymnasiumEnvironment(BatchedEnvironment):
    """Instances of one Gymnasium id, stepped one after the other in this process.

    Observations: uint8 images [height, width(, channels)] stay uint8, with a channel dimension; any other array becomes
    float32. Time limits are those of the registered id and reported as `truncated`. An agent step counts as one
    environment frame, because an id does not tell of an action repeat of its own.

    Args:
      name: a Gymnasium id, "CartPole-v1", or "package:id" where a package must be imported to register it.
      num_envs: instances.
      seed: each instance derives its own from it.

    Raises:
      UserError: unknown id, missing package, actions that are not discrete, observations that are not one array.
    """

    def __init__(self, name: str, num_envs: int, seed: int):
        import gymnasium
        from gymnasium.vector import AutoresetMode, SyncVectorEnv

        try:
            self._env: Any = SyncVectorEnv(
                [lambda: gymnasium.make(name, disable_env_checker=True)] * num_envs,
                autoreset_mode=AutoresetMode.SAME_STEP,
            )
        except (gymnasium.error.Error, ImportError) as error:
            raise _user_error(name, error) from error
        actions, observations = self._env.single_action_space, self._env.single_observation_space
        try:
            if not isinstance(actions, gymnasium.spaces.Discrete):
                raise UserError(f"gymnasium/{name} has the action space {actions}; only Discrete ones are supported")
            if not isinstance(observations, gymnasium.spaces.Box):
                kind = type(observations).__name__
                raise UserError(f"gymnasium/{name} has {kind} observations; only arrays (Box) are supported")
        except UserError:
            self._env.close()
            raise
        image = observations.dtype == np.uint8 and len(observations.shape) in (2, 3)
        shape = (*observations.shape, 1) if image and len(observations.shape) == 2 else observations.shape
        self.spec = EnvironmentSpec(ArraySpec(shape, np.dtype(np.uint8 if image else np.float32)), actions.n.item(), 1)
        self.num_envs = num_envs
        self._first_action = actions.start.item()
        self._seeds = instance_seeds(seed, num_envs).tolist()
        self._games = Games(num_envs)

    def reset(self) -> EnvironmentOutput:
        observation, _ = self._env.reset(seed=self._seeds)
        return self._games.first_output(self._convert(observation))

    def step(self, actions: np.ndarray) -> EnvironmentOutput:
        actions = self._check(actions) + self._first_action
        observation, reward, terminated, truncated, _ = self._env.step(actions)
        truncated &= ~terminated  # An end is an end, even when the clock ran out with it.
        return self._games.output(self._convert(observation), reward, terminated, truncated, terminated | truncated)

    def close(self) -> None:
        self._env.close()

    def _convert(self, observation: np.ndarray) -> np.ndarray:
        spec = self.spec.observation
        return observation.astype(spec.dtype, copy=False).reshape(self.num_envs, *spec.shape)


def known_ids() -> list[str]:
    """The ids that Gymnasium knows without importing another package, less ALE's, which atari/<game> serves better."""
    import gymnasium

    return [name for name, spec in gymnasium.registry.items() if not str(spec.entry_point).startswith("ale_py")]


def _user_error(name: str, error: Exception) -> UserError:
    """What a user can do about an environment that Gymnasium could not make."""
    import gymnasium

    if isinstance(error, (gymnasium.error.DependencyNotInstalled, ImportError)):
        return UserError(f"gymnasium/{name} needs a package that is not installed: {error}")
    if isinstance(error, gymnasium.error.UnregisteredEnv):
        near = difflib.get_close_matches(name, known_ids())
        hint = f"Did you mean {' or '.join(f'gymnasium/{n}' for n in near)}? " if near else ""
        return UserError(
            f"unknown Gymnasium id {name!r}. {hint}An id that a package registers when it is imported is written "
            f"gymnasium/<package>:<id>, for example gymnasium/minigrid:MiniGrid-Empty-5x5-v0."
        )
    return UserError(f"gymnasium/{name} cannot be made: {error}")

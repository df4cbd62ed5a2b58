"""Any Gymnasium environment with discrete actions."""

from __future__ import annotations

import contextlib
import difflib
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from impala_tf.environments.base import BatchedEnvironment, EnvironmentFailed, EpisodeTracker, as_image, instance_seeds
from impala_tf.errors import UserError
from impala_tf.structures import ArraySpec, EnvironmentOutput, EnvironmentSpec


class GymnasiumEnvironment(BatchedEnvironment):
    """Instances of one Gymnasium environment.

    Observations are images or vectors, either of them with or without an instruction; see `AgentObservation`. Time
    limits are reported as `truncated`.

    Args:
      name: Gymnasium's id: "CartPole-v1", or "package:id" if a package must be imported to register it. With
        `make_one`, any environment id, for messages.
      num_envs: number of instances.
      seed: each instance derives its own from it.
      make_one: makes one instance, a `gymnasium.Env`. If its metadata lists the render mode "rgb_array", `make_one`
        must take `render_mode`.
      keep_bool: of `AgentObservation`.
      frames_per_step: environment frames per agent step, if the environment repeats actions. Gymnasium does not tell.
      autoreset: if False, an instance whose episode has ended is left alone until the next `reset`; see `OneEpisode`.
      render: whether `render` will be called.

    Raises:
      UserError: unknown id, missing package, actions that are not discrete, observations that an agent cannot read.
      EnvironmentFailed: an instance called `sys.exit`; as do `reset` and `step`. Other exceptions of an instance pass.

    Rewards are passed on as they are. The learner refuses updates that are not finite, see --max_refused_updates.
    """

    def __init__(
        self,
        name: str,
        num_envs: int,
        seed: int,
        *,
        make_one: Callable[..., Any] | None = None,
        keep_bool: bool = False,
        frames_per_step: int = 1,
        autoreset: bool = True,
        render: bool = False,
    ):
        from gymnasium.vector import AutoresetMode, SyncVectorEnv

        self._env_id = name if make_one else f"gymnasium/{name}"
        with contextlib.ExitStack() as made:  # Closes the first instances if a later one cannot be made.
            envs = []
            for _ in range(num_envs):
                envs.append(_make(self._env_id, make_one, keep_bool, autoreset, render))
                made.callback(envs[-1].close)
            take_next = functools.partial(next, iter(envs))
            self._env: Any = SyncVectorEnv([take_next] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)
            made.pop_all()
        observations: Any = self._env.single_observation_space
        actions: Any = self._env.single_action_space
        names = _action_names(envs[0])
        self.spec = EnvironmentSpec(_spec(observations), int(actions.n), frames_per_step, action_names=names)
        self.num_envs = num_envs
        self._first_action = int(actions.start)
        self._seeds = instance_seeds(seed, num_envs).tolist()
        self._episodes = EpisodeTracker(num_envs)

    def reset(self) -> EnvironmentOutput:
        try:
            self._observation, _ = self._env.reset(seed=self._seeds)
        except SystemExit as error:
            raise _exited(self._env_id, error) from error
        return self._episodes.first_output(self._observation)

    def step(self, actions: np.ndarray) -> EnvironmentOutput:
        try:
            answer = self._env.step(self._check(actions) + self._first_action)
        except SystemExit as error:  # Nothing but the environment may raise it here, and it must not end the process.
            raise _exited(self._env_id, error) from error
        self._observation, reward, terminated, truncated, _ = answer
        truncated &= ~terminated  # If the time limit hits in the step that terminates, the termination counts.
        return self._episodes.output(self._observation, reward, terminated, truncated, terminated | truncated)

    def render(self) -> np.ndarray:
        import gymnasium

        first = self._env.envs[0]
        if first.render_mode is None:
            observation = self._observation
            return as_image((observation["image"] if isinstance(observation, dict) else observation)[0])
        try:
            return np.asarray(first.render(), np.uint8)
        except gymnasium.error.DependencyNotInstalled as error:
            raise UserError(f"to draw {self._env_id}, a package is needed that is not installed: {error}") from error

    def close(self) -> None:
        self._env.close()


def _make(env_id: str, make_one: Callable[..., Any] | None, keep_bool: bool, autoreset: bool, render: bool) -> Any:
    """Makes one instance, with observations that an agent can read."""
    import gymnasium

    from impala_tf.environments.observations import AgentObservation
    from impala_tf.environments.one_episode import OneEpisode

    gymnasium.logger.min_level = gymnasium.logger.ERROR  # Its warnings are for authors of environments.
    name = env_id.removeprefix("gymnasium/")
    make = make_one or functools.partial(gymnasium.make, name, disable_env_checker=True)
    try:
        env = make()
        if render and "rgb_array" in env.metadata.get("render_modes", ()):
            env.close()
            env = make(render_mode="rgb_array")
    except (gymnasium.error.Error, ImportError) as error:
        raise _user_error(env_id, name, error) from error
    except SystemExit as error:
        raise _exited(env_id, error) from error
    try:
        readable = AgentObservation(env, env_id, keep_bool)
    except BaseException:
        env.close()
        raise
    return readable if autoreset else OneEpisode(readable)


def _exited(env_id: str, error: SystemExit) -> EnvironmentFailed:
    return EnvironmentFailed(f"{env_id} called sys.exit({'' if error.code is None else repr(error.code)})")


def _action_names(env: Any) -> tuple[str, ...]:
    """Returns the environment's names for its actions; () if it has none, or not one for each."""
    if not env.has_wrapper_attr("get_action_meanings"):
        return ()
    names = tuple(map(str, env.get_wrapper_attr("get_action_meanings")()))
    return names if len(names) == env.action_space.n else ()


def _spec(space: Any) -> Any:
    if hasattr(space, "spaces"):
        return {key: _spec(entry) for key, entry in space.items()}
    return ArraySpec(space.shape, space.dtype)


def known_ids() -> list[str]:
    """Returns the ids that Gymnasium knows without importing another package, except ALE's, which are atari/<game>."""
    import gymnasium

    return [name for name, spec in gymnasium.registry.items() if not str(spec.entry_point).startswith("ale_py")]


def _user_error(env_id: str, name: str, error: Exception) -> UserError:
    """Tells the user what to do about an environment that Gymnasium could not make."""
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

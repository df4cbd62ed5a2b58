"""The interface of environments: a batch of B instances that are stepped together and reset themselves."""

from __future__ import annotations

import abc

import numpy as np

from impala_tf.errors import UserError
from impala_tf.structures import EnvironmentOutput, EnvironmentSpec, map_spec


class EnvironmentFailed(RuntimeError):
    """An instance died, raised, or did not answer in time; the message names the environment and the cause."""


class BatchedEnvironment(abc.ABC):
    """B instances of one environment, stepped together.

    Automatic reset in the same step: if a step ends an episode, the observation that it returns is already the first
    one of the next episode; the last observation of the ended episode is never shown.

    `reset` and `step` return fresh arrays: later calls do not write into them, so callers may keep them.

    Attributes:
      spec: what an agent needs to know about one instance.
      num_envs: B.
    """

    spec: EnvironmentSpec
    num_envs: int

    @abc.abstractmethod
    def reset(self) -> EnvironmentOutput:
        """Starts an episode in every instance; rewards and flags are 0. Called once, before the first `step`."""

    def step(self, actions: np.ndarray) -> EnvironmentOutput:
        """Takes one agent step in every instance.

        Subclasses override either this or both `send` and `receive`.

        Args:
          actions: int32 [B], each in [0, `spec.num_actions`).

        Raises:
          ValueError: the actions have another shape or are out of range.
          EnvironmentFailed: an instance cannot continue.
        """
        self.send(actions)
        return self.receive()

    def send(self, actions: np.ndarray) -> None:
        """The first half of `step`: sending to several environments before receiving lets them step in parallel.

        Takes and raises what `step` does. By default the instances step in `receive`.
        """
        self._sent = actions

    def receive(self) -> EnvironmentOutput:
        """The second half of `step`: waits for every instance. Called once after each `send`."""
        return self.step(self._sent)

    def render(self) -> np.ndarray:
        """Returns the current picture of instance 0, uint8 [height, width, 3], RGB, at the engine's own resolution.

        Environments without an engine show the observation. After a step that ended an episode, this is the first
        picture of the next one. Call it only after `reset`, and only if `environments.make` got `render=True`.

        Raises:
          UserError: drawing needs a package that is not installed.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot render")

    def close(self) -> None:  # noqa: B027 - most have nothing to release.
        """Releases all resources; no other method may be called afterwards."""

    def _check(self, actions: np.ndarray) -> np.ndarray:
        """Returns the actions as an int32 array [B].

        Raises:
          ValueError: they are not B numbers in range.
        """
        actions = np.asarray(actions, np.int32)
        if actions.shape != (self.num_envs,):
            raise ValueError(f"expected actions of shape ({self.num_envs},), got {actions.shape}")
        if actions.min() < 0 or actions.max() >= self.spec.num_actions:
            raise ValueError(f"actions must lie in [0, {self.spec.num_actions}), got {actions}")
        return actions


def empty_output(spec: EnvironmentSpec, num_envs: int) -> EnvironmentOutput:
    """Returns an output [B, ...] of zeros, with the shapes and dtypes of `spec`."""
    return EnvironmentOutput(
        observation=map_spec(lambda s: np.zeros((num_envs, *s.shape), s.dtype), spec.observation),
        reward=np.zeros(num_envs, np.float32),
        terminated=np.zeros(num_envs, bool),
        truncated=np.zeros(num_envs, bool),
        episode_return=np.zeros(num_envs, np.float32),
        episode_length=np.zeros(num_envs, np.int32),
    )


def mark_failed(output: EnvironmentOutput) -> EnvironmentOutput:
    """Marks every entry of an output as no answer to the action; see `EnvironmentOutput.episode_length`."""
    return output._replace(
        truncated=np.ones_like(output.truncated), episode_length=np.full_like(output.episode_length, -1)
    )


def as_image(observation: np.ndarray) -> np.ndarray:
    """Returns one observation of any spec as an image, uint8 [height, width, 3].

    Of channels that hold successive frames, only the newest is shown, in gray. Numbers other than uint8 are clipped to
    [0, 1]. A vector becomes one row.
    """
    if observation.dtype != np.uint8:
        observation = np.rint(np.clip(observation.astype(np.float64), 0, 1) * 255).astype(np.uint8)
    if observation.ndim == 1:
        observation = observation[None]
    if observation.ndim == 2:
        observation = observation[..., None]
    rgb = observation if observation.shape[-1] == 3 else observation[..., -1:].repeat(3, axis=-1)
    return np.ascontiguousarray(rgb)


class EpisodeTracker:
    """Tracks return and length of the unfinished game (all lives) of each of B instances."""

    def __init__(self, num_envs: int):
        self._return = np.zeros(num_envs, np.float64)  # In float32, long games with large scores lose points.
        self._length = np.zeros(num_envs, np.int32)

    def first_output(self, observation: np.ndarray) -> EnvironmentOutput:
        """Returns the output of `reset`: first observations, rewards and flags 0. Forgets unfinished games."""
        self._return[:], self._length[:] = 0, 0
        no = np.zeros(len(self._length), bool)
        return EnvironmentOutput(
            observation, no.astype(np.float32), no, no.copy(), no.astype(np.float32), no.astype(np.int32)
        )

    def output(
        self,
        observation: np.ndarray,
        reward: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        game_over: np.ndarray,
    ) -> EnvironmentOutput:
        """Returns the output of `step`, with return and length of the games that ended in it.

        Args:
          observation: [B, ...].
          reward: [B], raw.
          terminated, truncated: bool [B], as in `EnvironmentOutput`.
          game_over: bool [B], whether a full game ended, either way; the loss of a life is not enough.
        """
        self._return += reward
        self._length += 1
        episode_return = np.where(game_over, self._return, 0).astype(np.float32)
        episode_length = np.where(game_over, self._length, 0).astype(np.int32)
        self._return[game_over], self._length[game_over] = 0, 0
        return EnvironmentOutput(
            observation, reward.astype(np.float32), terminated, truncated, episode_return, episode_length
        )


def instance_seeds(seed: int, num_envs: int) -> np.ndarray:
    """Returns a seed for each instance, int32 [B] in [0, 2^31); the environment seeds 0, 1, 2, ... share none."""
    return (np.random.SeedSequence(seed).generate_state(num_envs) >> 1).astype(np.int32)


def check_same_spec(name: str, spec: EnvironmentSpec, expected: EnvironmentSpec) -> None:
    """Checks that a task can share a network with the others. The names of the actions may differ.

    Args:
      name: environment id of the task, for the message.
      spec: of the task.
      expected: of the other tasks.

    Raises:
      UserError: an agent would see a difference.
    """
    for field, its, theirs in zip(spec._fields, spec, expected):
        if its != theirs and field != "action_names":
            raise UserError(
                f"{name} cannot share one network with the other tasks: its {field.replace('_', ' ')} is "
                f"{_short(its)}, theirs {_short(theirs)}."
            )


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(part)}" for key, part in value.items())
    if hasattr(value, "shape"):
        return f"{value.dtype} {list(value.shape)}"  # type: ignore[attr-defined]
    return str(value)

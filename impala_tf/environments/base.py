"""What an actor knows of an environment: a batch of B instances that are stepped together and reset themselves."""

from __future__ import annotations

import abc

import numpy as np

from impala_tf.structures import EnvironmentOutput, EnvironmentSpec, map_spec


class EnvironmentFailed(RuntimeError):
    """An instance died, raised or did not answer; the message names the environment and says which of these."""


class BatchedEnvironment(abc.ABC):
    """B instances of one environment, stepped together.

    Automatic reset in the same step: where a step ends an episode, the observation that it returns is already the first
    one of the next episode; the last observation of the ended episode is never shown.

    The arrays that `reset` and `step` return are fresh: later calls do not write into them, so they may be kept.

    Attributes:
      spec: what one instance looks like to an agent.
      num_envs: B.
    """

    spec: EnvironmentSpec
    num_envs: int

    @abc.abstractmethod
    def reset(self) -> EnvironmentOutput:
        """Starts a new episode in every instance. Called once, before the first `step`; rewards and flags are 0."""

    def step(self, actions: np.ndarray) -> EnvironmentOutput:
        """Takes one agent step in every instance.

        A subclass overrides either this or `send` and `receive`.

        Args:
          actions: int32 [B], each in [0, `spec.num_actions`).

        Raises:
          ValueError: the actions have another shape or lie outside that range.
          EnvironmentFailed: an instance cannot go on.
        """
        self.send(actions)
        return self.receive()

    def send(self, actions: np.ndarray) -> None:
        """The first half of `step`: several environments step at once if all are sent to before any is received from.

        Takes and raises what `step` does. By default the instances step in `receive`.
        """
        self._sent = actions

    def receive(self) -> EnvironmentOutput:
        """The second half of `step`: waits for every instance. Called once after each `send`."""
        return self.step(self._sent)

    def render(self) -> np.ndarray:
        """What instance 0 shows now, uint8 [height, width, 3], RGB, in the engine's own resolution where it has one.

        After a step that ended an episode, that is the first moment of the next one. Called after `reset`, and only
        where `environments.make` was told that it would be.

        Raises:
          UserError: drawing needs a package that is not installed.
        """
        raise NotImplementedError(f"{type(self).__name__} shows nothing")

    def close(self) -> None:  # noqa: B027 - most have nothing to release.
        """Releases what the environment holds; nothing may be called after it."""

    def _check(self, actions: np.ndarray) -> np.ndarray:
        """The actions as an int32 array [B]; ValueError where they are not B numbers in range."""
        actions = np.asarray(actions, np.int32)
        if actions.shape != (self.num_envs,):
            raise ValueError(f"expected actions of shape ({self.num_envs},), got {actions.shape}")
        if actions.min() < 0 or actions.max() >= self.spec.num_actions:
            raise ValueError(f"actions must lie in [0, {self.spec.num_actions}), got {actions}")
        return actions


def empty_output(spec: EnvironmentSpec, num_envs: int) -> EnvironmentOutput:
    """An output [B, ...] of zeros, as environments of `spec` give it."""
    return EnvironmentOutput(
        observation=map_spec(lambda s: np.zeros((num_envs, *s.shape), s.dtype), spec.observation),
        reward=np.zeros(num_envs, np.float32),
        terminated=np.zeros(num_envs, bool),
        truncated=np.zeros(num_envs, bool),
        episode_return=np.zeros(num_envs, np.float32),
        episode_length=np.zeros(num_envs, np.int32),
    )


def as_image(observation: np.ndarray) -> np.ndarray:
    """One observation of any spec as uint8 [height, width, 3].

    Of successive frames in channels it is the newest, in grey; numbers other than uint8 are cut to [0, 1]; a vector is
    one row.
    """
    if observation.dtype != np.uint8:
        observation = np.rint(np.clip(observation.astype(np.float64), 0, 1) * 255).astype(np.uint8)
    if observation.ndim == 1:
        observation = observation[None]
    if observation.ndim == 2:
        observation = observation[..., None]
    rgb = observation if observation.shape[-1] == 3 else observation[..., -1:].repeat(3, axis=-1)
    return np.ascontiguousarray(rgb)


class Games:
    """Accumulates return and length of the full games (all lives) that B instances are in the middle of."""

    def __init__(self, num_envs: int):
        self._return = np.zeros(num_envs, np.float64)  # Long games with large scores lose points in float32.
        self._length = np.zeros(num_envs, np.int32)

    def first_output(self, observation: np.ndarray) -> EnvironmentOutput:
        """The output of `reset`: the first observations, no rewards, nothing ended; forgets unfinished games."""
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
        """The output of `step`, completed by return and length of the games that ended in it.

        Args:
          observation: [B, ...].
          reward: [B], raw.
          terminated, truncated: bool [B], as in `EnvironmentOutput`.
          game_over: bool [B], a full game ended, in whichever way; the loss of a life is not enough.
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
    """One seed for each instance, int32 [B] in [0, 2^31), spread so that actors with seeds 0, 1, 2, ... share none."""
    return (np.random.SeedSequence(seed).generate_state(num_envs) >> 1).astype(np.int32)

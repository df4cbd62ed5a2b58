"""Counting: an environment without a task, for proving the path of the data from the actor to the loss.

Every observation holds the number of its instance and of its step, and everything else in its entry follows from these
and the action. `check_unroll` can therefore tell whether an unroll is torn, mixed or shifted, without any other record
of what happened.
"""

from __future__ import annotations

import secrets

import numpy as np

from impala_tf.environments.base import BatchedEnvironment, EpisodeTracker, as_image
from impala_tf.structures import ArraySpec, EnvironmentOutput, EnvironmentSpec


class CountingEnvironment(BatchedEnvironment):
    """Counts its steps.

    Observations are int32 [4]: instance id, agent steps since `reset`, episode index, agent steps in this episode.
    There are 8 actions. Rewards: `reward_of`. Episodes with an even index terminate, those with an odd index are
    truncated, after `episode_lengths` steps, few enough for many ends inside unrolls.

    Args:
      num_envs: number of instances.
      seed: enters the instance ids.
      tag: also enters the instance ids; by default 31 random bits. The ids of two processes, or of one process before
        and after a restart, therefore differ even if the seed is the same, and the seed alone does not reproduce them.
        The ids within one environment are consecutive (modulo 2^31).
    """

    spec = EnvironmentSpec(ArraySpec((4,), np.dtype(np.int32)), num_actions=8, frames_per_step=1)

    def __init__(self, num_envs: int, seed: int, *, tag: int | None = None):
        self.num_envs = num_envs
        entropy = [seed, secrets.randbits(31) if tag is None else tag]
        first = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        self._id = (first + np.arange(num_envs)) % 2**31
        self._episodes = EpisodeTracker(num_envs)
        self._counter, self._episode_index, self._step = np.zeros((3, num_envs), np.int32)

    def reset(self) -> EnvironmentOutput:
        for count in (self._counter, self._episode_index, self._step):
            count[:] = 0
        return self._episodes.first_output(self._observe())

    def step(self, actions: np.ndarray) -> EnvironmentOutput:
        actions = self._check(actions)
        self._counter += 1
        self._step += 1
        ended = self._step == episode_lengths(self._id, self._episode_index)
        terminated = ended & (self._episode_index % 2 == 0)
        self._step[ended] = 0
        self._episode_index += ended
        reward = reward_of(self._counter, actions)
        return self._episodes.output(self._observe(), reward, terminated, ended & ~terminated, ended)

    def render(self) -> np.ndarray:
        return as_image(self._observe()[0])

    def _observe(self) -> np.ndarray:
        return np.stack([self._id, self._counter, self._episode_index, self._step], axis=-1).astype(np.int32)


def episode_lengths(instance: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """Returns the agent steps of episodes: 3 to 9 for those that terminate (even index), 4 to 8 for the truncated."""
    return np.where(episode % 2 == 0, 3 + instance % 7, 4 + instance % 5)


def reward_of(counter: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Returns rewards, float32: the step counter (modulo 1024, so that it is exact) plus an eighth of the action."""
    return (counter % 1024 + action / 8).astype(np.float32)


class TornUnroll(AssertionError):
    """The entries of an unroll do not belong together; the message says where and how."""


def check_unroll(
    observation: np.ndarray, action: np.ndarray, reward: np.ndarray, terminated: np.ndarray, truncated: np.ndarray
) -> None:
    """Checks that the entries of one unroll are consecutive and that each answers the action that it holds.

    To check that unrolls overlap by one entry, compare the last entry of one with the first of the next.

    Args:
      observation: int32 [T + 1, 4].
      action: int [T + 1], the action that led to the observation.
      reward: float32 [T + 1].
      terminated, truncated: bool [T + 1].

    Raises:
      TornUnroll: the check failed.
    """
    arrays = [np.asarray(x) for x in (observation, action, reward, terminated, truncated)]
    observation, action, reward, terminated, truncated = arrays
    length = len(observation)
    if observation.shape != (length, 4) or any(x.shape != (length,) for x in arrays[1:]):
        raise TornUnroll(f"shapes differ: {[x.shape for x in arrays]}")
    instance, counter, episode, step = observation.astype(np.int64).T

    def check(name: str, actual: np.ndarray, expected: np.ndarray, first_entry: int = 0) -> None:
        wrong = np.flatnonzero(actual != expected)
        if len(wrong):
            t = wrong[0]
            raise TornUnroll(f"entry {t + first_entry}: {name} is {actual[t]}, should be {expected[t]}")

    check("instance id", instance[1:], np.broadcast_to(instance[0], length - 1), 1)
    check("step counter", counter[1:], counter[:-1] + 1, 1)
    ended = (step == 0) & (counter > 0)
    check("end of episode", ended[1:], step[:-1] + 1 == episode_lengths(instance, episode)[:-1], 1)
    check("step in episode", step[1:], np.where(ended[1:], 0, step[:-1] + 1), 1)
    check("episode index", episode[1:], episode[:-1] + ended[1:], 1)
    check("terminated", terminated, ended & (episode % 2 == 1))  # The episode that ended was the one before.
    check("truncated", truncated, ended & (episode % 2 == 0))
    check("reward", reward, np.where(counter > 0, reward_of(counter, action), 0))

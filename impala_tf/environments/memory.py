"""Memory: a cue is shown once and asked for later. Only agents with a memory do better than chance."""

from __future__ import annotations

import numpy as np

from impala_tf.environments.base import BatchedEnvironment, EpisodeTracker, as_image
from impala_tf.structures import ArraySpec, EnvironmentOutput, EnvironmentSpec

CUES = 4
SHORTEST, LONGEST = 3, 7


class MemoryEnvironment(BatchedEnvironment):
    """Shows one of four cues, and later asks which it was.

    Observations are float32 [5]. At the first step of an episode, the entry of the cue is 1; at the last one, the fifth
    entry is 1, which asks for the cue; all others are 0. There are 4 actions, one per cue. Only the last action of an
    episode counts: its reward is 1 if it names the cue, else 0. Episodes take 3 to 7 agent steps, a random number, so
    that unrolls of any length contain many ends. The best policy returns 1; without memory, no policy returns more than
    0.25 on average.

    Args:
      num_envs: number of instances.
      seed: determines the cues and the lengths of the episodes.
    """

    spec = EnvironmentSpec(
        ArraySpec((CUES + 1,), np.dtype(np.float32)),
        num_actions=CUES,
        frames_per_step=1,
        action_names=tuple(f"cue {i + 1}" for i in range(CUES)),
    )

    def __init__(self, num_envs: int, seed: int):
        self.num_envs = num_envs
        self._random = np.random.default_rng(seed)
        self._episodes = EpisodeTracker(num_envs)
        self._cue, self._length, self._step = np.zeros((3, num_envs), np.int32)

    def reset(self) -> EnvironmentOutput:
        self._start(np.ones(self.num_envs, bool))
        return self._episodes.first_output(self._observe())

    def step(self, actions: np.ndarray) -> EnvironmentOutput:
        actions = self._check(actions)
        self._step += 1
        ended = self._step == self._length
        reward = ended & (actions == self._cue)
        self._start(ended)
        return self._episodes.output(self._observe(), reward, ended, np.zeros_like(ended), ended)

    def render(self) -> np.ndarray:
        return as_image(self._observe()[0])

    def _start(self, where: np.ndarray) -> None:
        self._step[where] = 0
        self._cue[where] = self._random.integers(CUES, size=where.sum())
        self._length[where] = self._random.integers(SHORTEST, LONGEST + 1, size=where.sum())

    def _observe(self) -> np.ndarray:
        observation = np.zeros((self.num_envs, CUES + 1), np.float32)
        observation[np.arange(self.num_envs), self._cue] = self._step == 0
        observation[:, CUES] = self._step == self._length - 1
        return observation

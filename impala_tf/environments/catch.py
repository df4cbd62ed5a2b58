"""Catch (Mnih et al., 2014; bsuite): the smallest game with images. Agents solve it within seconds of training."""

from __future__ import annotations

import numpy as np

from impala_tf.environments.base import BatchedEnvironment, EpisodeTracker, as_image
from impala_tf.structures import ArraySpec, EnvironmentOutput, EnvironmentSpec

ROWS, COLUMNS = 10, 5


class CatchEnvironment(BatchedEnvironment):
    """A ball falls down a board of 10 rows and 5 columns; a paddle in the lowest row has to catch it.

    Observations are float32 [10, 5]: 1 at the ball and at the paddle, 0 elsewhere. Actions: 0 left, 1 stay, 2 right.
    The ball starts in a random column of the top row, the paddle in the middle; the ball falls one row per step. An
    episode takes 9 agent steps. The reward is 0 until the last of them, then 1 for a catch and -1 for a miss. The mean
    return of random play is about -0.6.

    Args:
      num_envs: number of instances.
      seed: determines the columns of the balls.
    """

    spec = EnvironmentSpec(
        ArraySpec((ROWS, COLUMNS), np.dtype(np.float32)),
        num_actions=3,
        frames_per_step=1,
        action_names=("left", "stay", "right"),
    )

    def __init__(self, num_envs: int, seed: int):
        self.num_envs = num_envs
        self._random = np.random.default_rng(seed)
        self._episodes = EpisodeTracker(num_envs)
        self._row, self._ball, self._paddle = np.zeros((3, num_envs), np.int32)

    def reset(self) -> EnvironmentOutput:
        self._start(np.ones(self.num_envs, bool))
        return self._episodes.first_output(self._observe())

    def step(self, actions: np.ndarray) -> EnvironmentOutput:
        self._paddle = np.clip(self._paddle + self._check(actions) - 1, 0, COLUMNS - 1)
        self._row += 1
        ended = self._row == ROWS - 1
        reward = np.where(ended, np.where(self._ball == self._paddle, 1, -1), 0)
        self._start(ended)
        return self._episodes.output(self._observe(), reward, ended, np.zeros_like(ended), ended)

    def render(self) -> np.ndarray:
        return as_image(self._observe()[0])

    def _start(self, where: np.ndarray) -> None:
        self._row[where] = 0
        self._ball[where] = self._random.integers(COLUMNS, size=where.sum())
        self._paddle[where] = COLUMNS // 2

    def _observe(self) -> np.ndarray:
        board = np.zeros((self.num_envs, ROWS, COLUMNS), np.float32)
        instances = np.arange(self.num_envs)
        board[instances, self._row, self._ball] = 1
        board[instances, ROWS - 1, self._paddle] = 1
        return board

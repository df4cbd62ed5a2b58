"""Small games that fail as engines do, importable in child processes."""

from __future__ import annotations

import os

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

MODULE = "gymnasium/evaluation_games"
GOOD, BAD, UNMADE, EXITS = (f"{MODULE}:{name}-v0" for name in ("Good", "Bad", "Unmade", "Exits"))
LENGTH = 4


class Good(gymnasium.Env):
    """Pays the chosen action's number at the end of 4 steps; the picture tells the step."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - Gymnasium's attribute.
    observation_space = Box(-1, 1, (2,), np.float32)
    action_space = Discrete(3)

    def __init__(self, render_mode: str | None = None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._steps = 0
        return self._look(), {}

    def step(self, action):
        self._steps += 1
        ended = self._steps == LENGTH
        return self._look(), float(action) * ended, ended, False, {}

    def _look(self):
        return self.np_random.uniform(-1, 1, size=2).astype(np.float32)

    def render(self):
        return np.full((20, 20, 3), 60 * self._steps, np.uint8)


class Bad(Good):
    """Its engine is broken, until the variable REPAIRED is set."""

    def step(self, action):
        if "REPAIRED" not in os.environ:
            raise RuntimeError("the map has no\nfloor")
        return super().step(action)


class Unmade(Good):
    """Its engine cannot be made."""

    def __init__(self, render_mode: str | None = None):
        raise RuntimeError("no such map")


class Exits(Good):
    """Its engine says why on standard error and ends the process, as DeepMind Lab does."""

    def step(self, action):
        os.write(2, b"Didn't find map 'castle'\n")
        os._exit(1)


for _kind in (Good, Bad, Unmade, Exits):
    gymnasium.register(f"{_kind.__name__}-v0", entry_point=_kind)  # type: ignore[arg-type]

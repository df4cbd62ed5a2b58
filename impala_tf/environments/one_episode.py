"""Plays one episode and no more, for environments that start episodes slowly."""

from __future__ import annotations

from typing import Any

import gymnasium


class OneEpisode(gymnasium.Wrapper):
    """Leaves the environment alone from the end of its episode until the next reset with a seed.

    Meanwhile, resets without a seed, such as automatic ones, and steps return the last observation again; steps return
    reward 0 and do not end an episode.
    """

    _ended = False
    _last: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        if self._ended and seed is None:
            return self._last, {}
        self._ended = False
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        if self._ended:
            return self._last, 0.0, False, False, {}
        self._last, reward, terminated, truncated, info = self.env.step(action)
        self._ended = terminated or truncated
        return self._last, reward, terminated, truncated, info

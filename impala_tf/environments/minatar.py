"""MinAtar (Young and Tian, 2019): five Atari games reduced to 10 x 10 cells, for experiments on one machine."""

from __future__ import annotations

import difflib
import functools
from typing import Any

import gymnasium
import numpy as np

from impala_tf.environments.gymnasium_env import GymnasiumEnvironment
from impala_tf.errors import UserError

GAMES = ("asterix", "breakout", "freeway", "seaquest", "space_invaders")


class MinAtarEnvironment(GymnasiumEnvironment):
    """Instances of one game.

    Observations are bool [10, 10, C]: a channel for each kind of object, 4 in Breakout and up to 10 in the others.
    Actions are those that the game uses, 3 to 6. As MinAtar's authors propose, an action is replaced by the last one
    with probability 0.1, and three games (Asterix, Seaquest, Space Invaders) get harder as they go on. Only Freeway has
    a time limit, and no other end: an episode is `truncated` after 2,501 steps. MinAtar documents 2,500 and reports a
    termination, but its observations do not tell the time, so an agent cannot foresee the end.

    The first instance of a process is slow to make: MinAtar imports Matplotlib and seaborn, whether it draws or not.

    Args:
      game: one of `GAMES`.
      num_envs: number of instances.
      seed: each instance derives its own from it.
      **episodes: `autoreset` and `render` of `GymnasiumEnvironment`.

    Raises:
      UserError: unknown game, missing package.
    """

    def __init__(self, game: str, num_envs: int, seed: int, **episodes: Any):
        if game not in GAMES:
            near = difflib.get_close_matches(game, GAMES)
            hint = f"did you mean {' or '.join(f'minatar/{n}' for n in near)}?" if near else f"it is one of {_ALL}."
            raise UserError(f"unknown MinAtar game {game!r}: {hint}")
        make_one = functools.partial(_make, game)
        super().__init__(f"minatar/{game}", num_envs, seed, make_one=make_one, keep_bool=True, **episodes)


_ALL = ", ".join(GAMES)
_ACTIONS = {"n": "noop", "l": "left", "u": "up", "r": "right", "d": "down", "f": "fire"}


def games() -> list[str]:
    """Returns the names of all games."""
    return list(GAMES)


def _make(game: str, render_mode: str | None = None) -> gymnasium.Env:
    try:
        from minatar.gym import BaseEnv
    except ImportError as error:
        raise UserError(f'MinAtar is not installed ({error}): pip install "minatar>=1.0.15"') from error
    return _Game(BaseEnv(game, render_mode=render_mode, use_minimal_action_set=True))


class _Game(gymnasium.Wrapper):
    """Tells a time limit from an end, draws in bytes, and names the actions."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        env: Any = self.env
        observation, reward, ended, _, info = self.env.step(action)
        limit = ended and env.game.game_name() == "freeway"
        return observation, reward, ended and not limit, limit, info

    def render(self) -> Any:
        """Returns the picture, uint8 [10, 10, 3]; MinAtar's has colors from 0 to 1."""
        return np.rint(255 * np.asarray(self.env.render())).astype(np.uint8)

    def get_action_meanings(self) -> list[str]:
        env: Any = self.env
        return [_ACTIONS[env.game.env.action_map[action]] for action in env.action_set]

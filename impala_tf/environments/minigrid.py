"""MiniGrid and BabyAI (Chevalier-Boisvert et al., 2019; 2023): small worlds with instructions in words."""

from __future__ import annotations

import contextlib
import difflib
import functools
import io
from typing import Any

import gymnasium

from impala_tf.environments.gymnasium_env import GymnasiumEnvironment
from impala_tf.errors import UserError


class MiniGridEnvironment(GymnasiumEnvironment):
    """Instances of one level.

    Observations are {"image": uint8 [56, 56, 3], the agent's view of 7 x 7 tiles; "instruction": the mission}. The
    agent's direction, which MiniGrid also gives, is dropped. There are 7 actions: left, right, forward, pick up, drop,
    toggle, done. The reward for completing the mission is 1, less up to 0.9 for the time taken. Time limits are
    reported as `truncated`.

    Args:
      level: Gymnasium's id, such as "BabyAI-GoToRedBall-v0" or "MiniGrid-MemoryS7-v0".
      num_envs: number of instances.
      seed: each instance derives its own from it.
      **episodes: `autoreset` and `render` of `GymnasiumEnvironment`.

    Raises:
      UserError: unknown level, missing package.
    """

    def __init__(self, level: str, num_envs: int, seed: int, **episodes: Any):
        if level not in levels():
            near = difflib.get_close_matches(level, levels())
            hint = f"did you mean {' or '.join(f'minigrid/{n}' for n in near)}?" if near else ""
            raise UserError(
                f"unknown MiniGrid level {level!r}: {hint or 'for example minigrid/BabyAI-GoToRedBall-v0.'}"
            )
        make_one = functools.partial(_make, level)
        super().__init__(f"minigrid/{level}", num_envs, seed, make_one=make_one, **episodes)


def levels() -> list[str]:
    """Returns the ids of all levels.

    Raises:
      UserError: MiniGrid is not installed.
    """
    try:
        import minigrid  # noqa: F401
    except ImportError as error:
        raise UserError(f'MiniGrid is not installed ({error}): pip install "minigrid>=3"') from error
    return [name for name in gymnasium.registry if name.startswith(("MiniGrid-", "BabyAI-"))]


def _make(level: str, render_mode: str | None = None) -> gymnasium.Env:
    from minigrid.wrappers import RGBImgPartialObsWrapper

    return _Quiet(RGBImgPartialObsWrapper(gymnasium.make(level, disable_env_checker=True, render_mode=render_mode)))


class _Quiet(gymnasium.Wrapper):
    """Silences BabyAI, which prints each level that it generates and rejects."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict]:
        with contextlib.redirect_stdout(io.StringIO()):
            return self.env.reset(**kwargs)

    def get_action_meanings(self) -> list[str]:
        return [action.name for action in self.env.unwrapped.actions]  # type: ignore[attr-defined]

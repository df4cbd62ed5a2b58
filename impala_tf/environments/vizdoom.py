"""VizDoom's scenarios (Kempka et al., 2016), set up as the paper sets up DMLab: RGB, 96 x 72, action repeat 4."""

from __future__ import annotations

import contextlib
import difflib
import functools
import itertools
import os
import re
import tempfile
from typing import Any

import gymnasium
import numpy as np

from impala_tf.environments.gymnasium_env import GymnasiumEnvironment
from impala_tf.errors import UserError

FRAMES_PER_STEP = 4
HEIGHT, WIDTH = 72, 96


class VizDoomEnvironment(GymnasiumEnvironment):
    """Instances of one scenario.

    Observations are uint8 [72, 96, 3]; the game variables that Gymnasium's environment also gives are dropped. An
    action is either nothing or one of the scenario's buttons. A frame is one of the engine's 35 per second; rewards are
    summed over the 4 frames of a step. The scenario's time limit is reported as `truncated`, unless the player died in
    the same step.

    Args:
      scenario: a name from `scenarios`, such as "DefendTheCenter", or Gymnasium's spelling of it, "DefendCenter".
      num_envs: number of instances.
      seed: each instance derives its own from it.
      **episodes: `autoreset` and `render` of `GymnasiumEnvironment`.

    An engine is a program of its own. If the process is killed, its engines survive, unless the process is a `Child`.

    Raises:
      UserError: unknown scenario, actions other than single buttons, or missing package.
    """

    def __init__(self, scenario: str, num_envs: int, seed: int, **episodes: Any):
        super().__init__(
            f"vizdoom/{scenario}",
            num_envs,
            seed,
            make_one=functools.partial(_make, _gymnasium_id(scenario)),
            frames_per_step=FRAMES_PER_STEP,
            **episodes,
        )


def scenarios() -> dict[str, str]:
    """Returns {"Basic": Gymnasium's newest id of it, ...} for the scenarios whose actions are single buttons.

    Raises:
      UserError: VizDoom is not installed.
    """
    try:
        import vizdoom.gymnasium_wrapper  # noqa: F401
    except ImportError as error:
        raise UserError(f'VizDoom is not installed ({error}): pip install "vizdoom>=1.3"') from error
    registered = [s for s in gymnasium.registry.values() if s.id.startswith("Vizdoom")]
    registered = [s for s in registered if s.kwargs.get("max_buttons_pressed") == 1]
    registered.sort(key=lambda s: s.version or 0)
    return {_name(s.kwargs["scenario_config_file"]): s.id for s in registered}


def _name(config_file: str) -> str:
    """Turns defend_the_center.cfg into DefendTheCenter."""
    return "".join(word.capitalize() for word in config_file.removesuffix(".cfg").split("_"))


def _gymnasium_id(scenario: str) -> str:
    known = scenarios()
    ids = {_key(i): i for i in known.values()} | {_key(name): i for name, i in known.items()}
    if _key(scenario) in ids:
        return ids[_key(scenario)]
    names = {_key(name): name for name in known}
    near = [names[key] for key in difflib.get_close_matches(_key(scenario), names)]
    hint = f"did you mean {' or '.join(f'vizdoom/{n}' for n in near)}?" if near else f"there are {', '.join(known)}."
    raise UserError(f"unknown VizDoom scenario {scenario!r}: {hint}")


def _key(name: str) -> str:
    return re.sub(r"^vizdoom|-v\d+$|[^a-z0-9]", "", re.sub(r"-v\d+$", "", name.lower()))


def _make(gymnasium_id: str, render_mode: str | None = None) -> gymnasium.Env:
    import vizdoom.gymnasium_wrapper  # noqa: F401 - registers the ids.

    env = gymnasium.make(
        gymnasium_id,
        disable_env_checker=True,
        render_mode=render_mode,
        frame_skip=FRAMES_PER_STEP,
        screen_resolution="RES_160X120",  # The engine's smallest.
        doom_config_path=os.devnull,  # Instead of an ini file in the current directory, which all engines would share.
    )
    return _Screen(env)


class _Screen(gymnasium.Wrapper):
    """Keeps the screen only, reduced, and reports time limits as truncation instead of termination."""

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        self.observation_space = gymnasium.spaces.Box(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        self._game: Any = env.unwrapped.game  # type: ignore[attr-defined]

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict]:
        with contextlib.nullcontext() if self._game.is_running() else _elsewhere():
            observation, _ = self.env.reset(**kwargs)
        return reduce(observation["screen"]), {}

    def step(self, action: Any) -> tuple[np.ndarray, Any, bool, bool, dict]:
        observation, reward, over, _, _ = self.env.step(action)
        truncated = over and self._game.is_episode_timeout_reached() and not self._game.is_player_dead()
        return reduce(observation["screen"]), reward, over and not truncated, truncated, {}

    def get_action_meanings(self) -> list[str]:
        env: Any = self.env.unwrapped
        names = [button.name.lower().replace("_", " ") for button in self._game.get_available_buttons()]
        return [" + ".join(itertools.compress(names, pressed)) or "nothing" for pressed in env.button_map]


@contextlib.contextmanager
def _elsewhere():
    """A temporary current directory, for the folders that the engine creates when it starts."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        try:
            yield
        finally:
            os.chdir(before)


def reduce(screen: np.ndarray) -> np.ndarray:
    """Reduces a screen, uint8 [120, 160, 3], to uint8 [72, 96, 3]; a new pixel is the mean over 5/3 x 5/3 old ones."""
    rows = _three_of_five(screen.reshape(HEIGHT // 3, 5, -1).astype(np.uint16), 1)
    pixels = _three_of_five(rows.reshape(HEIGHT, WIDTH // 3, 5, 3), 2)
    return ((pixels + 12) // 25).astype(np.uint8).reshape(HEIGHT, WIDTH, 3)


def _three_of_five(x: np.ndarray, axis: int) -> np.ndarray:
    """Replaces each 5 values along the axis by 3 sums over 5/3 of a value, in units of a third."""
    a, b, c, d, e = np.moveaxis(x, axis, 0)
    return np.stack([3 * a + 2 * b, b + 3 * c + d, 2 * d + 3 * e], axis)

"""Levels of DeepMind Lab (Beattie et al., 2016), played as in the paper (section 5.1, Tables D.2 and D.3).

No engine starts before the first `reset`, so a parent process may ask for specs. A process with an engine must not fork
(the child would hang), and the engine ends the process in cases where others raise an exception, such as a missing map.
An instance therefore belongs in a process of its own, started by spawn.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box, Discrete

from impala_tf import suites
from impala_tf.environments import instructions
from impala_tf.environments.gymnasium_env import GymnasiumEnvironment
from impala_tf.environments.level_cache import LevelCache
from impala_tf.errors import UserError
from impala_tf.processes.temporary import Folder

HEIGHT, WIDTH = 72, 96
FRAMES_PER_STEP = 4

# Table D.2. Columns: look right, look down (pixels per frame), strafe right, move forward, fire, jump, crouch. The
# engine reads a row's memory and ignores its strides.
ACTIONS = np.array(
    [
        [0, 0, 0, 1, 0, 0, 0],  # Forward.
        [0, 0, 0, -1, 0, 0, 0],  # Backward.
        [0, 0, -1, 0, 0, 0, 0],  # Strafe left.
        [0, 0, 1, 0, 0, 0, 0],  # Strafe right.
        [-20, 0, 0, 0, 0, 0, 0],  # Look left.
        [20, 0, 0, 0, 0, 0, 0],  # Look right.
        [-20, 0, 0, 1, 0, 0, 0],  # Forward and look left.
        [20, 0, 0, 1, 0, 0, 0],  # Forward and look right.
        [0, 0, 0, 0, 1, 0, 0],  # Fire.
    ],
    np.intc,
)
ACTION_NAMES = (
    "forward",
    "backward",
    "strafe left",
    "strafe right",
    "look left",
    "look right",
    "forward left",
    "forward right",
    "fire",
)

_DMLAB30_FOLDER = "contributed/dmlab30/"

# Two of the 30 tasks have one level for training and another for testing.
DMLAB30 = tuple(
    dict.fromkeys(
        env_id.removeprefix("dmlab/") for test in (False, True) for env_id in suites.env_ids("dmlab30", test=test)
    )
)

# The fifth level of the single-task experiments (section 5.2) is not in DMLab-30.
LEVELS = (*DMLAB30, "seekavoid_arena_01")

_NEED_DATASET = ("psychlab_arbitrary_visuomotor_mapping", "psychlab_continuous_recognition")

# Levels for testing draw their seeds from another range. The authors' scalable_agent passes this number to every level
# that it evaluates.
_TEST_SETTINGS = {"allowHoldOutLevels": "true", "mixerSeed": str(0x600D5EED)}


class LabLevel(gymnasium.Env):
    """One instance of one level, as a `gymnasium.Env`; `LabEnvironment` is a batch of them.

    Observations: {"image": uint8 [72, 96, 3], RGB; "instruction": int32 [64], the level's instruction after
    `instructions.encode`, mostly empty}. An agent step is 4 environment frames with the same action (`ACTIONS`).

    Every end of an episode is reported as `terminated`, even if the level's own clock ended it, as it usually does: the
    paper's discount is 0 at every end. The engine has no observation after the end, so the last one is returned again.

    Each episode has its own seed, in [0, 2^31 - 1), drawn from the generator that `reset(seed=...)` seeds. That call
    also starts a new engine, because an engine plays an episode differently after others. The same seed therefore
    always gives the same episodes.

    Args:
      level: the name of a DMLab-30 level, such as "rooms_watermaze", or the path of any other level in Lab's
        game_scripts/levels, such as "seekavoid_arena_01". Levels that end in "_test" use seeds for testing.
      renderer: "software" (OSMesa) or "hardware" (EGL or GLX, depending on the build of Lab).
      level_cache: folder for compiled maps, see `LevelCache`; "": none.
      dataset_path: folder of the images that some PsychLab levels show; "dummy" makes Lab show plain colors.
      test: whether to use seeds for testing, from which training never draws.

    Raises:
      UserError: from the constructor, as `check`; from `reset`, if the engine cannot start.
    """

    metadata = {"render_modes": [], "frames_per_step": FRAMES_PER_STEP}  # noqa: RUF012 - Gymnasium's.
    action_space = Discrete(len(ACTIONS))
    observation_space = gymnasium.spaces.Dict(
        image=Box(0, 255, (HEIGHT, WIDTH, 3), np.uint8),
        instruction=Box(instructions.NO_WORD, instructions.HASH_BUCKETS - 1, instructions.SPEC.shape, np.int32),
    )

    def __init__(
        self,
        level: str,
        *,
        renderer: str = "software",
        level_cache: str = "",
        dataset_path: str = "",
        test: bool = False,
    ):
        check(level, level_cache=level_cache, dataset_path=dataset_path)
        self._level, self._renderer = level, renderer
        self._level_cache, self._dataset_path, self._test = level_cache, dataset_path, test
        self._lab: Any = None
        self._temporary: Folder | None = None
        self._last_observation: dict[str, np.ndarray] = {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts an episode. A first call without a seed takes one from the operating system; `options` are ignored."""
        super().reset(seed=seed)
        if seed is not None:
            self.close()
        if self._lab is None:
            self._lab = self._make()
        # Without a seed, processes started in the same second would play the same episodes. Lab refuses NumPy integers.
        self._lab.reset(seed=int(self.np_random.integers(2**31 - 1)))
        return self._observe(), {}

    def step(self, action: int) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Takes one agent step: 4 frames, or fewer if the episode ends.

        Raises:
          ValueError: the action is not in [0, 9).
          ResetNeeded: no episode is running.
        """
        if not self.action_space.contains(action):
            raise ValueError(f"actions must lie in [0, {len(ACTIONS)}), got {action}")
        if self._lab is None or not self._lab.is_running():
            raise ResetNeeded("no episode is running: call reset first")
        reward = self._lab.step(ACTIONS[action], num_steps=FRAMES_PER_STEP)
        terminated = not self._lab.is_running()
        return self._last_observation if terminated else self._observe(), reward, terminated, False, {}

    def get_action_meanings(self) -> list[str]:
        """Returns the names of the actions; ALE's environments introduced this method."""
        return list(ACTION_NAMES)

    def close(self) -> None:
        """Ends the engine; `reset` starts a new one."""
        lab, self._lab = self._lab, None  # Most calls to a closed engine end the process.
        if lab is not None:
            lab.close()
        if self._temporary is not None:
            self._temporary.close()

    def _make(self) -> Any:
        # Mesa would draw with threads of its own, for the same images at a higher price. It reads this when it starts.
        os.environ.setdefault("LP_NUM_THREADS", "0")
        self._temporary = Folder()  # The engine's own would be left behind by a process that is killed.
        try:
            return _module().Lab(
                engine_level(self._level),
                ["RGB_INTERLEAVED", "INSTR"],
                engine_config(self._level, self._dataset_path, self._test),
                renderer=self._renderer,
                level_cache=LevelCache(self._level_cache) if self._level_cache else None,
                temp_folder=str(self._temporary.path),
            )
        except RuntimeError as error:
            self._temporary.close()
            reason = re.sub(r"\s+", " ", str(error).partition("\nstack traceback")[0]).strip()
            hint = "; --dmlab_renderer=software needs no graphics card" if self._renderer == "hardware" else ""
            raise UserError(f"dmlab/{self._level} cannot be made: {reason}{hint}") from error

    def _observe(self) -> dict[str, np.ndarray]:
        seen = self._lab.observations()  # Fresh arrays every time.
        self._last_observation = {"image": seen["RGB_INTERLEAVED"], "instruction": instructions.encode(seen["INSTR"])}
        return self._last_observation


class LabEnvironment(GymnasiumEnvironment):
    """Instances of one level.

    Args:
      level, renderer, level_cache, dataset_path, test: as in `LabLevel`.
      num_envs: number of instances.
      seed: each instance derives its own from it.
      **episodes: `autoreset` and `render` of `GymnasiumEnvironment`.

    Raises:
      UserError: as `LabLevel`.
    """

    def __init__(
        self,
        level: str,
        num_envs: int,
        seed: int,
        *,
        renderer: str = "software",
        level_cache: str = "",
        dataset_path: str = "",
        test: bool = False,
        **episodes: Any,
    ):
        make_one = functools.partial(
            LabLevel, level, renderer=renderer, level_cache=level_cache, dataset_path=dataset_path, test=test
        )
        super().__init__(
            f"dmlab/{level}", num_envs, seed, make_one=make_one, frames_per_step=FRAMES_PER_STEP, **episodes
        )


def check(level: str, *, level_cache: str = "", dataset_path: str = "", **_options: Any) -> None:
    """Checks, without starting an engine, that a level can be made.

    Raises:
      UserError: deepmind_lab is not installed, there is no such level (the message suggests the nearest), the level
        needs a data set, or the level cache cannot be written to.
    """
    module = _module()
    name = level.removeprefix(_DMLAB30_FOLDER)
    script = Path(module.runfiles_path(), "baselab", "game_scripts", "levels", f"{level}.lua")
    if name not in LEVELS and not script.is_file():
        near = difflib.get_close_matches(level.rpartition("/")[2], LEVELS)
        hint = f"did you mean {' or '.join(f'dmlab/{n}' for n in near)}? " if near else ""
        raise UserError(
            f"unknown level dmlab/{level}: {hint}A level is named as in DMLab-30, or by its path in Lab's "
            "game_scripts/levels, without .lua."
        )
    if name in _NEED_DATASET and not dataset_path:
        raise UserError(
            f"dmlab/{level} shows the images of Brady, Konkle, Alvarez and Oliva (2008): download them as "
            "data/brady_konkle_oliva2008/README.md in github.com/google-deepmind/lab says, and give their folder as "
            "--dmlab_dataset_path."
        )
    if dataset_path and dataset_path != "dummy" and not Path(dataset_path).is_dir():
        raise UserError(f"--dmlab_dataset_path={dataset_path}: there is no such folder.")
    if level_cache:
        LevelCache(level_cache)


def levels() -> tuple[str, ...]:
    """Returns the names of the levels that the paper uses."""
    return LEVELS


def engine_level(level: str) -> str:
    """Returns the path of a level in Lab's game_scripts/levels."""
    return _DMLAB30_FOLDER + level if level in DMLAB30 else level


def engine_config(level: str, dataset_path: str = "", test: bool = False) -> dict[str, str]:
    """Returns Lab's settings for a level; those for testing if `test` is set or the level is one for testing."""
    config = {"width": str(WIDTH), "height": str(HEIGHT), "logLevel": "WARN"}
    if dataset_path:
        config["datasetPath"] = dataset_path
    return config | (_TEST_SETTINGS if test or level.endswith("_test") else {})


def _module() -> Any:
    """Imports deepmind_lab, which starts no engine."""
    try:
        import deepmind_lab
    except ModuleNotFoundError as error:
        if error.name != "deepmind_lab":
            raise UserError(
                f"deepmind_lab is installed but cannot be imported: {error}; pip install {error.name}"
            ) from error
        raise UserError(
            "dmlab/<level> needs the Python module deepmind_lab, which no package index has: build it from "
            "github.com/google-deepmind/lab with `bazel build -c opt //python/pip_package:build_pip_package`, run "
            "`bazel-bin/python/pip_package/build_pip_package <folder>`, and pip install the wheel that it writes "
            "(see python/pip_package/README.md there) and dm_env, which the wheel needs."
        ) from error
    except ImportError as error:
        raise UserError(f"deepmind_lab is installed but cannot be imported: {error}") from error
    return deepmind_lab

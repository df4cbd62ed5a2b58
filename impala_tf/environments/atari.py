"""Atari games through ALE's native vector environment, preprocessed as in the paper (Table G.1).

An agent step is 4 environment frames with the same action. The pixel-wise maximum of the last two frames, in gray and
reduced to 84 x 84, is stacked with the previous three. Games start after up to 30 no-op frames and end after at most
108,000 frames.
"""

from __future__ import annotations

import difflib
import functools
import re
from typing import Any

import numpy as np

from impala_tf.environments.base import BatchedEnvironment, EpisodeTracker, instance_seeds
from impala_tf.errors import UserError
from impala_tf.structures import ArraySpec, EnvironmentOutput, EnvironmentSpec

FRAMES_PER_STEP = 4
MAX_NOOPS = 30
HEIGHT, WIDTH = 210, 160

# The console's 18 actions are NOOP, FIRE, eight directions, and these with FIRE. Only Skiing has nine, without FIRE.
_ALL_ACTIONS = 18
_WITHOUT_FIRE = np.array([0, 0, *range(1, 9), *range(1, 9)], np.int32)


class AtariEnvironment(BatchedEnvironment):
    """Instances of one Atari game.

    Observations are uint8 [84, 84, 4], oldest frame first; a game starts with three black frames and its first. The
    loss of a life ends the episode for learning (`terminated`) but not the game: play, the frame stack, and the
    reported return and length of the game continue across it.

    Args:
      game: such as "ms_pacman"; see `rom`.
      num_envs: number of instances.
      seed: determines no-op starts and sticky actions; each instance derives its own from it.
      full_action_set: whether to offer all 18 actions of the console instead of those that the game uses. Skiing never
        reads FIRE; its actions with FIRE do the same as those without.
      sticky_actions: probability that a frame repeats the action of the previous frame.
      fire_on_reset: whether to press FIRE first in games that have it; some wait for it.
      life_loss_ends_episode: as above; if False, only the end of the game terminates.
      max_frames_per_episode: environment frames after the no-ops at which a game is truncated.
      env_threads: number of threads that step the instances; 0: one per core.
      autoreset: if True, games start after 0 to 30 no-op frames. If False, only the first game of each instance is
        wanted, and it starts after 1 to 30, equally likely, as in the paper's evaluation (section 5.3.2).
      render: whether `render` will be called. A second engine then plays the game of instance 0, for ALE's picture in
        color, 210 x 160, which is also the pixel-wise maximum of the last two frames.

    Raises:
      UserError: unknown game, missing package, or option out of range.
    """

    def __init__(
        self,
        game: str,
        num_envs: int,
        seed: int,
        *,
        full_action_set: bool = False,
        sticky_actions: float = 0.0,
        fire_on_reset: bool = False,
        life_loss_ends_episode: bool = True,
        max_frames_per_episode: int = 108_000,
        env_threads: int = 0,
        autoreset: bool = True,
        render: bool = False,
    ):
        if not 0 <= sticky_actions <= 1:
            raise UserError(f"the probability of sticky actions must lie in [0, 1], got {sticky_actions}")
        if max_frames_per_episode < 1:
            raise UserError(f"max_frames_per_episode must be at least 1, got {max_frames_per_episode}")
        game = rom(game)
        from ale_py.vector_env import AtariVectorEnv

        make = functools.partial(
            AtariVectorEnv,
            game,
            autoreset_mode="SameStep",
            stack_num=1,  # Frames are stacked below, three times faster than transposing ALE's stacks.
            noop_max=MAX_NOOPS + 1,  # ALE's bound is exclusive.
            # `episodic_life` would reset the game whenever a life is lost; `life_loss_info` only reports it.
            episodic_life=False,
            life_loss_info=life_loss_ends_episode,
            max_num_frames_per_episode=max_frames_per_episode,
            repeat_action_probability=sticky_actions,
            full_action_space=full_action_set,
            use_fire_reset=fire_on_reset,
            reward_clipping=False,
        )
        try:
            self._env: Any = make(num_envs=num_envs, num_threads=env_threads)
            in_color = {"grayscale": False, "img_height": HEIGHT, "img_width": WIDTH}
            self._screen: Any = make(num_envs=1, num_threads=1, **in_color) if render else None
        except OSError as error:
            raise UserError(f"the ROM of {game} cannot be read: {error}; check ALE_ROMS_DIR") from error
        self.num_envs = num_envs
        num_actions = int(self._env.single_action_space.n)
        self._without_fire = full_action_set and num_actions == len(set(_WITHOUT_FIRE))
        self.spec = EnvironmentSpec(
            ArraySpec((84, 84, 4), np.dtype(np.uint8)),
            _ALL_ACTIONS if full_action_set else num_actions,
            FRAMES_PER_STEP,
            frame_stack=True,
            action_names=_names(self._env, full_action_set),
        )
        self._noop_needed = not autoreset
        self._start = game, full_action_set, fire_on_reset
        self._seeds = instance_seeds(seed, num_envs)
        self._episodes = EpisodeTracker(num_envs)
        # The last four frames of each pixel are the bytes of one number, the oldest in the lowest.
        self._stack = np.zeros((num_envs, 84, 84), "<u4")
        self._frame_number = np.zeros(num_envs, np.int32)

    def reset(self) -> EnvironmentOutput:
        frames, info = self._env.reset(seed=self._seeds)
        if self._noop_needed:
            # Starts without a no-op are drawn again, each from a seed that follows from the one before.
            while (again := info["episode_frame_number"] == _frames_before_noops(*self._start)).any():
                self._seeds[again] = [instance_seeds(int(seed), 1)[0] for seed in self._seeds[again]]
                frames, info = self._env.reset(seed=self._seeds[again], options={"reset_mask": again})
        if self._screen is not None:
            self._shown = self._screen.reset(seed=self._seeds[:1])[0][0, 0]
        self._frame_number = info["episode_frame_number"]
        return self._episodes.first_output(self._push(frames, new_game=np.ones(self.num_envs, bool)))

    def send(self, actions: np.ndarray) -> None:
        # After an action out of range, ALE's threads would wait forever.
        actions = self._check(actions)
        actions = _WITHOUT_FIRE[actions] if self._without_fire else actions
        self._env.send(actions)
        if self._screen is not None:
            self._screen.send(actions[:1])

    def receive(self) -> EnvironmentOutput:
        frames, reward, terminated, truncated, info = self._env.recv()
        if self._screen is not None:
            self._shown = self._screen.recv()[0][0, 0]
        # A game that continues has advanced by exactly one action repeat. The number of lives does not distinguish the
        # loss of one from the end of the game: some games show 0 at their start (Amidar), and some give lives.
        continues = info["episode_frame_number"] == self._frame_number + FRAMES_PER_STEP
        new_game = truncated | (terminated & ~continues)
        self._frame_number = info["episode_frame_number"]
        return self._episodes.output(self._push(frames, new_game), reward, terminated, truncated, new_game)

    def render(self) -> np.ndarray:
        return self._shown.copy()

    def close(self) -> None:
        del self._env, self._screen  # Joins ALE's threads.

    def _push(self, frames: np.ndarray, new_game: np.ndarray) -> np.ndarray:
        """Appends the newest frames, uint8 [B, 1, 84, 84], to the stacks; returns the stacks, uint8 [B, 84, 84, 4]."""
        stack = self._stack >> 8  # Drops the oldest frame. A fresh array: earlier outputs stay as they are.
        stack[new_game] = 0
        observation = stack.view(np.uint8).reshape(*stack.shape, 4)
        observation[..., 3] = frames[:, 0]
        self._stack = stack
        return observation


@functools.cache
def _frames_before_noops(game: str, full_action_set: bool, fire_on_reset: bool) -> int:
    """Returns the frames that ALE spends before the no-ops: on switches of the console that some games wait for (134 in
    Name This Game), and on FIRE.
    """
    from ale_py.vector_env import AtariVectorEnv

    env: Any = AtariVectorEnv(
        game, 1, num_threads=1, noop_max=1, full_action_space=full_action_set, use_fire_reset=fire_on_reset
    )
    return int(env.reset()[1]["episode_frame_number"][0])


def _names(env: Any, full_action_set: bool) -> tuple[str, ...]:
    """Returns ALE's names of the actions that the game uses, or of all 18."""
    from ale_py import Action

    return tuple(action.name for action in (Action if full_action_set else env.ale.get_action_set()))


def games() -> list[str]:
    """Returns the names of the games that come with ALE, such as "ms_pacman".

    Raises:
      UserError: ale_py is not installed.
    """
    try:
        from ale_py import roms, vector_env  # noqa: F401
    except ImportError as error:
        raise UserError('Atari environments need the package ale-py: pip install "ale-py==0.12.1"') from error
    # ALE announces a ROM directory of the user's (ALE_ROMS_DIR) each time. Redirecting standard output instead would
    # also affect other threads.
    roms.print = lambda *_: None  # type: ignore[attr-defined]
    return sorted(roms.get_all_rom_ids())


def check(game: str, **_options: Any) -> None:
    """Checks that ALE has a game.

    Raises:
      UserError: it does not, or ale_py is not installed.
    """
    rom(game)


def rom(name: str) -> str:
    """Returns ALE's name of a game: ms_pacman for "MsPacman", "ALE/MsPacman-v5" and "MsPacmanNoFrameskip-v4".

    Raises:
      UserError: there is no such game; the message suggests the nearest.
    """
    known = {_key(game): game for game in games()}
    key = _key(re.sub(r"^ALE/|(NoFrameskip|Deterministic)?-v\d+$", "", name))
    if key in known:
        return known[key]
    near = [f"atari/{known[k]}" for k in difflib.get_close_matches(key, known)]
    hint = f"did you mean {' or '.join(near)}?" if near else f"for example {', '.join(sorted(known.values())[:5])}."
    raise UserError(f"unknown Atari game {name!r}: {hint} ALE has {len(known)} games.")


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())

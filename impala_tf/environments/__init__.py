"""Environments by id.

| id | environment |
|---|---|
| atari/<game> | an Atari game: atari/breakout, atari/ms_pacman |
| dmlab/<level> | a level of DeepMind Lab: dmlab/rooms_watermaze, dmlab/seekavoid_arena_01 |
| vizdoom/<scenario> | a VizDoom scenario: vizdoom/Basic, vizdoom/DefendTheCenter |
| minigrid/<level> | a MiniGrid or BabyAI level with its mission: minigrid/BabyAI-GoToRedBall-v0 |
| gymnasium/<id> | any Gymnasium id with discrete actions: gymnasium/CartPole-v1, gymnasium/package:Id-v0 |
| catch | Catch, for quick learning tests |
| memory | a cue is shown once and asked for later, for learning tests of agents with a memory |
| counting | a diagnostic of the data path |

Only NumPy is imported until an environment is made.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
from typing import Any

from impala_tf.environments.base import BatchedEnvironment
from impala_tf.errors import UserError
from impala_tf.structures import EnvironmentSpec

__all__ = ["BatchedEnvironment", "check", "make", "needs_process", "spec"]

_BUILT_IN = {"catch": "CatchEnvironment", "memory": "MemoryEnvironment", "counting": "CountingEnvironment"}
_FORMS = f"atari/<game>, dmlab/<level>, vizdoom/<scenario>, minigrid/<level>, gymnasium/<id>, {', '.join(_BUILT_IN)}"


def make(
    env_id: str,
    num_envs: int,
    seed: int,
    *,
    autoreset: bool = True,
    render: bool = False,
    **options: Any,
) -> BatchedEnvironment:
    """Makes a batch of instances of one environment.

    Args:
      env_id: see above.
      num_envs: instances.
      seed: non-negative; what it determines is documented at each environment.
      autoreset: without it, only the first episode of each instance is asked for: what an instance shows after its end
        is not to be looked at, and environments that are slow to start an episode do not start another. Games start
        as the paper's evaluation wants it; see `AtariEnvironment`.
      render: `BatchedEnvironment.render` will be called.
      **options: those that begin with dmlab_ are `LabEnv`'s, without it, and the others `AtariEnvironment`'s; other
        environments have none, and take no notice.

    Raises:
      UserError: unknown id (names the nearest), missing package, number out of range.
    """
    if num_envs < 1:
        raise UserError(f"the number of environments must be at least 1, got {num_envs}")
    if seed < 0:
        raise UserError(f"the seed must not be negative, got {seed}")
    family, _, name = env_id.partition("/")
    if env_id in _BUILT_IN:
        return _of(env_id, _BUILT_IN[env_id])(num_envs, seed)
    if not name:
        raise _unknown(env_id)
    if family == "atari":
        own = {key: value for key, value in options.items() if not key.startswith("dmlab_")}
        return _of("atari", "AtariEnvironment")(name, num_envs, seed, autoreset=autoreset, render=render, **own)
    episodes = {"autoreset": autoreset, "render": render}
    if family == "gymnasium":
        return _of("gymnasium_env", "GymnasiumEnvironment")(env_id, num_envs, seed, **episodes)
    if family == "minigrid":
        return _of("minigrid", "MiniGridEnvironment")(name, num_envs, seed, **episodes)
    if family == "vizdoom":
        return _of("vizdoom", "VizDoomEnvironment")(name, num_envs, seed, **episodes)
    if family == "dmlab":
        own = {key.removeprefix("dmlab_"): value for key, value in options.items() if key.startswith("dmlab_")}
        return _of("dmlab", "LabEnvironment")(name, num_envs, seed, **own, **episodes)
    raise _unknown(env_id)


def spec(env_id: str, **options: Any) -> EnvironmentSpec:
    """What an environment looks like to an agent; takes the options of `make` and raises what it raises.

    Makes one instance and closes it.
    """
    with contextlib.closing(make(env_id, 1, 0, **options)) as environment:
        return environment.spec


def check(env_id: str, **options: Any) -> None:
    """Raises UserError for a game or level that cannot be made, and makes nothing; `make` finds out about others."""
    family, _, name = env_id.partition("/")
    if family == "atari" and name:
        _of("atari", "rom")(name)
    if family == "dmlab" and name:
        own = {key: options[f"dmlab_{key}"] for key in ("level_cache", "dataset_path") if f"dmlab_{key}" in options}
        _of("dmlab", "check")(name, **own)


def needs_process(env_id: str) -> bool:
    """Whether its instances should have a process each: engines that are slow, or do not share a process well."""
    return env_id.partition("/")[0] in ("dmlab", "vizdoom")


def _of(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"impala_tf.environments.{module}"), name)


def _unknown(env_id: str) -> UserError:
    """Names the ids whose last part comes nearest."""
    from impala_tf.environments import atari, gymnasium_env

    full_ids = {name: name for name in _BUILT_IN}
    with contextlib.suppress(ImportError):
        full_ids |= {name.lower(): f"gymnasium/{name}" for name in gymnasium_env.known_ids()}
    with contextlib.suppress(UserError):
        full_ids |= {name.lower(): f"minigrid/{name}" for name in _of("minigrid", "levels")()}
    with contextlib.suppress(UserError):
        full_ids |= {name.lower(): f"vizdoom/{name}" for name in _of("vizdoom", "scenarios")()}
    full_ids |= {name: f"dmlab/{name}" for name in _of("dmlab", "LEVELS")}
    with contextlib.suppress(UserError):
        full_ids |= {game: f"atari/{game}" for game in atari.games()}
    last = env_id.rpartition("/")[2].lower()
    near = [last] if last in full_ids else difflib.get_close_matches(last, full_ids)
    with contextlib.suppress(UserError):  # Another spelling of a game, such as ALE/MsPacman-v5.
        near = [atari.rom(env_id)]
    hint = f"did you mean {' or '.join(full_ids[n] for n in near)}? " if near else ""
    return UserError(f"unknown environment {env_id!r}: {hint}The forms are {_FORMS}.")

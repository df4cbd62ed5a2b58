"""Environments by id.

| id | environment |
|---|---|
| atari/<game> | an Atari game: atari/breakout, atari/ms_pacman |
| gymnasium/<id> | any Gymnasium id with discrete actions: gymnasium/CartPole-v1, gymnasium/package:Id-v0 |
| vizdoom/<scenario> | a VizDoom scenario: vizdoom/Basic, vizdoom/DefendTheCenter |
| minigrid/<level> | a MiniGrid or BabyAI level with its mission: minigrid/BabyAI-GoToRedBall-v0 |
| catch | Catch, for quick learning tests |
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

__all__ = ["BatchedEnvironment", "make", "spec"]

_FORMS = "atari/<game>, gymnasium/<id>, vizdoom/<scenario>, minigrid/<level>, catch, counting"


def make(env_id: str, num_envs: int, seed: int, *, processes: bool = False, **atari_options: Any) -> BatchedEnvironment:
    """Makes a batch of instances of one environment.

    Args:
      env_id: see above.
      num_envs: instances.
      seed: non-negative; what it determines is documented at each environment.
      processes: each instance of gymnasium/ and minigrid/ in a process of its own; elsewhere it makes no difference.
      **atari_options: see `AtariEnvironment`. Other environments ignore them.

    Raises:
      UserError: unknown id (names the nearest), missing package, number out of range.
    """
    if num_envs < 1:
        raise UserError(f"the number of environments must be at least 1, got {num_envs}")
    if seed < 0:
        raise UserError(f"the seed must not be negative, got {seed}")
    family, _, name = env_id.partition("/")
    if family == "atari" and name:
        return _class("atari", "AtariEnvironment")(name, num_envs, seed, **atari_options)
    if family == "gymnasium" and name:
        return _class("gymnasium_env", "GymnasiumEnvironment")(env_id, num_envs, seed, processes=processes)
    if family == "vizdoom" and name:
        return _class("vizdoom", "VizDoomEnvironment")(name, num_envs, seed)
    if family == "minigrid" and name:
        return _class("minigrid", "MiniGridEnvironment")(name, num_envs, seed, processes=processes)
    if env_id == "catch":
        return _class("catch", "CatchEnvironment")(num_envs, seed)
    if env_id == "counting":
        return _class("counting", "CountingEnvironment")(num_envs, seed)
    raise _unknown(env_id)


def spec(env_id: str, **options: Any) -> EnvironmentSpec:
    """What an environment looks like to an agent; takes the options of `make` and raises what it raises.

    Makes one instance and closes it.
    """
    with contextlib.closing(make(env_id, 1, 0, **options)) as environment:
        return environment.spec


def _class(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"impala_tf.environments.{module}"), name)


def _unknown(env_id: str) -> UserError:
    """Names the ids whose last part comes nearest."""
    from impala_tf.environments import atari, gymnasium_env

    full_ids = {"catch": "catch", "counting": "counting"}
    with contextlib.suppress(ImportError):
        full_ids |= {name.lower(): f"gymnasium/{name}" for name in gymnasium_env.known_ids()}
    with contextlib.suppress(UserError):
        full_ids |= {name.lower(): f"minigrid/{name}" for name in _class("minigrid", "levels")()}
    with contextlib.suppress(UserError):
        full_ids |= {name.lower(): f"vizdoom/{name}" for name in _class("vizdoom", "scenarios")()}
    with contextlib.suppress(UserError):
        full_ids |= {game: f"atari/{game}" for game in atari.games()}
    last = env_id.rpartition("/")[2].lower()
    near = [last] if last in full_ids else difflib.get_close_matches(last, full_ids)
    with contextlib.suppress(UserError):  # Another spelling of a game, such as ALE/MsPacman-v5.
        near = [atari.rom(env_id)]
    hint = f"did you mean {' or '.join(full_ids[n] for n in near)}? " if near else ""
    return UserError(f"unknown environment {env_id!r}: {hint}The forms are {_FORMS}.")

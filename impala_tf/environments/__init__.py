"""Environments by id.

| id | environment |
|---|---|
| atari/<game> | an Atari game: atari/breakout, atari/ms_pacman |
| dmlab/<level> | a DeepMind Lab level: dmlab/rooms_watermaze, dmlab/seekavoid_arena_01 |
| vizdoom/<scenario> | a VizDoom scenario: vizdoom/Basic, vizdoom/DefendTheCenter |
| minatar/<game> | a MinAtar game: minatar/breakout, minatar/space_invaders |
| minigrid/<level> | a MiniGrid or BabyAI level with its mission: minigrid/BabyAI-GoToRedBall-v0 |
| gymnasium/<id> | any Gymnasium id with discrete actions: gymnasium/CartPole-v1, gymnasium/package:Id-v0 |
| catch | Catch, for quick learning tests |
| memory | a cue is shown once and asked for later: tests whether agents with a memory learn to use it |
| counting | a diagnostic of the data path |

Until an environment is made, only NumPy is imported.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
from typing import Any, NamedTuple

from impala_tf.environments.base import BatchedEnvironment
from impala_tf.errors import UserError, one_line
from impala_tf.structures import EnvironmentSpec

__all__ = ["BatchedEnvironment", "check", "kind", "make", "needs_process", "spec"]


class _Family(NamedTuple):
    """Environments with ids of one form, implemented by one class.

    Attributes:
      module: in this package.
      cls: class in the module. Its constructor takes the part of the id after the slash, the number of instances, the
        seed, `autoreset`, `render`, and the family's options.
      form: what the part of the id after the slash is, for messages.
      names: function in the module that lists known values of that part.
      check: function in the module that raises UserError for one that cannot be made; "" if there is none.
      needs_process: see `needs_process`.
      one_spec: whether all its environments have the same spec; games have it where each is given all actions.
    """

    module: str
    cls: str
    form: str
    names: str
    check: str = ""
    needs_process: bool = False
    one_spec: bool = False


_FAMILIES = {
    "atari": _Family("atari", "AtariEnvironment", "<game>", "games", check="check", one_spec=True),
    "dmlab": _Family("dmlab", "LabEnvironment", "<level>", "levels", check="check", needs_process=True, one_spec=True),
    "vizdoom": _Family("vizdoom", "VizDoomEnvironment", "<scenario>", "scenarios", needs_process=True),
    "minatar": _Family("minatar", "MinAtarEnvironment", "<game>", "games"),
    "minigrid": _Family("minigrid", "MiniGridEnvironment", "<level>", "levels"),
    "gymnasium": _Family("gymnasium_env", "GymnasiumEnvironment", "<id>", "known_ids"),
}
_BUILT_IN = {"catch": "CatchEnvironment", "memory": "MemoryEnvironment", "counting": "CountingEnvironment"}
_FORMS = ", ".join([*(f"{name}/{family.form}" for name, family in _FAMILIES.items()), *_BUILT_IN])


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
      num_envs: number of instances.
      seed: non-negative; each environment documents what it determines.
      autoreset: if False, only the first episode of each instance is wanted: outputs after its end are meaningless, and
        environments that start episodes slowly do not start another. Atari games then start as in the paper's
        evaluation; see `AtariEnvironment`.
      render: whether `BatchedEnvironment.render` will be called.
      **options: those that begin with dmlab_ are passed to `LabLevel` without that prefix, the others to
        `AtariEnvironment`. Environments ignore the options of others.

    Raises:
      UserError: unknown id (the message suggests the nearest), missing package, or number out of range.
    """
    if num_envs < 1:
        raise UserError(f"the number of environments must be at least 1, got {num_envs}")
    if seed < 0:
        raise UserError(f"the seed must not be negative, got {seed}")
    if env_id in _BUILT_IN:
        return _get(env_id, _BUILT_IN[env_id])(num_envs, seed)
    family, name = _parse(env_id)
    make_instances = _get(_FAMILIES[family].module, _FAMILIES[family].cls)
    return make_instances(name, num_envs, seed, autoreset=autoreset, render=render, **_own(family, options))


def spec(env_id: str, **options: Any) -> EnvironmentSpec:
    """Returns the spec of an environment; takes the options of `make`.

    Makes one instance and closes it.

    Raises:
      UserError: as `make`, or the instance cannot be made for any other reason.
    """
    try:
        with contextlib.closing(make(env_id, 1, 0, **options)) as environment:
            return environment.spec
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{env_id} cannot be made: {one_line(error)}") from error


def check(env_id: str, **options: Any) -> None:
    """Finds out cheaply whether a game or level can be made; other environments are only checked by `make`.

    Raises:
      UserError: it cannot be made, or the id is unknown.
    """
    if env_id in _BUILT_IN:
        return
    family, name = _parse(env_id)
    if _FAMILIES[family].check:
        _get(_FAMILIES[family].module, _FAMILIES[family].check)(name, **_own(family, options))


def kind(env_id: str) -> str:
    """Returns a name that environments have in common if their specs are equal, given the options of several tasks."""
    family = _FAMILIES.get(env_id.partition("/")[0])
    return env_id.partition("/")[0] if family is not None and family.one_spec else env_id


def needs_process(env_id: str) -> bool:
    """Returns whether every instance should have its own process: the engine is slow or cannot share a process."""
    family = _FAMILIES.get(env_id.partition("/")[0])
    return family is not None and family.needs_process


def _parse(env_id: str) -> tuple[str, str]:
    """Splits an id into family and name."""
    family, _, name = env_id.partition("/")
    if family not in _FAMILIES or not name:
        raise _unknown(env_id)
    return family, name


def _own(family: str, options: dict[str, Any]) -> dict[str, Any]:
    """Selects the options of a family: those that begin with its name, or for Atari those of no other family."""
    own = {}
    for key, value in options.items():
        owner, _, rest = key.partition("_")
        if owner in _FAMILIES and owner == family:
            own[rest] = value
        elif owner not in _FAMILIES and family == "atari":
            own[key] = value
    return own


def _get(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"impala_tf.environments.{module}"), name)


def _unknown(env_id: str) -> UserError:
    """Suggests the ids that end most like this one."""
    known = {name: name for name in _BUILT_IN}
    meant = difflib.get_close_matches(env_id.partition("/")[0].lower(), _FAMILIES, n=1)
    # The later win: MinAtar's games have the names of Atari's, which are meant unless the id begins like MinAtar's.
    for name, family in sorted(reversed(_FAMILIES.items()), key=lambda item: item[0] in meant):
        with contextlib.suppress(UserError, ImportError):  # Missing packages.
            known |= {each.lower(): f"{name}/{each}" for each in _get(family.module, family.names)()}
    last = env_id.rpartition("/")[2].lower()
    near = [last] if last in known else difflib.get_close_matches(last, known)
    with contextlib.suppress(UserError):  # Other spellings of a game, such as ALE/MsPacman-v5.
        near = [_get("atari", "rom")(env_id)]
    hint = f"did you mean {' or '.join(known[name] for name in near)}? " if near else ""
    return UserError(f"unknown environment {env_id!r}: {hint}The forms are {_FORMS}.")

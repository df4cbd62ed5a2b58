"""Setups by name: `--setup=atari_deep` takes the flags of `run/flagfiles/atari_deep.flags`."""

from __future__ import annotations

import difflib
import pathlib
from typing import Any

from impala_tf import config as config_lib
from impala_tf import flags, suites
from impala_tf.config import Config
from impala_tf.errors import UserError

NAME = "setup"
_FOLDER = pathlib.Path(__file__).with_name("flagfiles")
_LEARNING = ("loss", "optimizer", "data")


def define() -> None:
    """Defines --setup."""
    listed = "\n".join(_listed())
    flags.define_own(
        "Setups",
        NAME,
        "",
        f"Settings by name. Other flags win over them, wherever they stand.\n{listed}",
    )


def file(name: str) -> pathlib.Path:
    """Returns the flag file of a setup.

    Raises:
      UserError: there is none of this name; lists those that there are.
    """
    if name in names():
        return _FOLDER / f"{name}.flags"
    near = difflib.get_close_matches(name, names(), n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise UserError("\n".join([f"--{NAME}={name}: there is no such setup.{hint} There are:", *_listed()]))


def settings(name: str) -> dict[str, Any]:
    """Returns {setting: value} of a setup.

    Raises:
      UserError: as `file`.
    """
    file(name)
    return flags.parse([line for line in _lines(name) if line.startswith("--")])


def names() -> list[str]:
    """Returns the names of all setups."""
    return sorted(path.stem for path in _FOLDER.glob("*.flags"))


def advice(config: Config) -> str:
    """Returns a line that names a setup, for a run with Atari's settings of something that needs others; "" otherwise.

    Such a run is of the same kind of environment as one of the setups, and has none of its settings for learning.
    """
    env, values = config.environment.env, config_lib.to_values(config)
    learning = {setting.name: setting.default for group, setting in config_lib.settings() if group in _LEARNING}
    for name in names():
        wanted = _flags(name)
        example = wanted.get("env", "")
        if example in suites.SUITES or example.partition("/")[0] != env.partition("/")[0] or "," in env:
            continue
        if all(values[flag] == learning[flag] for flag in wanted if flag in learning):
            return (
                f"The settings for learning are those for Atari, with which {env} may learn slowly or not at all; "
                f"--{NAME}={name} has settings that are known to learn {example}."
            )
    return ""


def _listed() -> list[str]:
    """One line for each setup: its name, and the first sentence of its flag file."""
    width = max(map(len, names()))
    return [f"  {name:<{width}}  {_about(name)}" for name in names()]


def _about(name: str) -> str:
    comment = []
    for line in _lines(name):
        if not line.startswith("# ") or line.startswith("#  "):  # Indented: the command.
            break
        comment.append(line[2:])
    return " ".join(comment).partition(". ")[0].rstrip(".")


def _flags(name: str) -> dict[str, str]:
    return dict(line[2:].partition("=")[::2] for line in _lines(name) if line.startswith("--"))


def _lines(name: str) -> list[str]:
    return (_FOLDER / f"{name}.flags").read_text().splitlines()

"""Reads the textprotos that define Reverb's tables. Does not import Reverb, so a wrong name is reported at once."""

from __future__ import annotations

import importlib.resources
import pathlib
import re

from impala_tf.config import Config
from impala_tf.errors import UserError
from impala_tf.transport import GRADIENTS, REPLAY, TRAJECTORIES, VARIABLES

_ENDING = ".textproto"


def check(config: Config) -> None:
    """Checks that the textproto of a run can be read and names the tables that its architecture needs.

    Raises:
      UserError: it cannot be read, or a table is missing.
    """
    if config.launch.architecture == "a3c":
        name, needed, example = config.data.gradient_tables, [GRADIENTS, VARIABLES], "a3c"
    else:
        name, example = config.data.tables, "replay" if config.data.replay_fraction else "on_policy"
        needed = [TRAJECTORIES, VARIABLES, *[REPLAY] * bool(config.data.replay_fraction)]
    found = re.findall(r"""table_name\s*:\s*["']([^"']*)["']""", read(name))
    for table in needed:
        if table not in found:
            raise UserError(
                f"--reverb_config={name}: has no table {table!r} (its tables: {found}); copy it from "
                f"reverb_configs/{example}{_ENDING}, or leave out --reverb_config."
            )


def read(name_or_path: str) -> str:
    """Reads a textproto: a file in reverb_configs/, named without its ending, or a path.

    Raises:
      UserError: the file does not exist or cannot be read.
    """
    folder = importlib.resources.files("impala_tf") / "reverb_configs"
    path = pathlib.Path(name_or_path)
    try:
        return (path if path.suffix == _ENDING else folder.joinpath(name_or_path + _ENDING)).read_text()
    except (OSError, UnicodeDecodeError) as error:
        names = sorted(f.name[: -len(_ENDING)] for f in folder.iterdir() if f.name.endswith(_ENDING))
        raise UserError(
            f"--reverb_config={name_or_path}: cannot be read ({getattr(error, 'strerror', 'not a text')}). Give a path "
            f"ending in {_ENDING} or one of: {', '.join(names)}."
        ) from None

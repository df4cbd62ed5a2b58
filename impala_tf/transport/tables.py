"""Reads the textprotos that define Reverb's tables. Does not import Reverb, so a wrong name is reported at once."""

from __future__ import annotations

import importlib.resources
import pathlib

from impala_tf.errors import UserError

_ENDING = ".textproto"


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

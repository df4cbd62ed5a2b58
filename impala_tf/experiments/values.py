"""Hyperparameters of several runs, from a CSV file: a column for each setting and a row for each run."""

from __future__ import annotations

import csv
import io
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from impala_tf import config as config_lib
from impala_tf.errors import UserError

_FEW = 8


def read(
    path: pathlib.Path, allowed: Sequence[str], meant: Callable[[str, Sequence[str]], list[str]]
) -> list[dict[str, Any]]:
    """Reads the file.

    Args:
      path: of the file.
      allowed: settings that may be columns.
      meant: returns those of them that may be meant by a name that is none.

    Returns:
      {setting: value} for each row; all have the same settings.

    Raises:
      UserError: the file cannot be read, a column is not allowed, or a value is not one of its setting.
    """
    try:
        lines = [line for line in csv.reader(io.StringIO(path.read_text("utf-8-sig"))) if line]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--values={path} cannot be read: {getattr(error, 'strerror', error)}.") from None
    names, rows = ([name.strip() for name in lines[0]], lines[1:]) if lines else ([], [])
    if unknown := [name for name in names if name not in allowed]:
        raise UserError(f"--values={path} has a column {unknown[0]!r}{_hint(unknown[0], allowed, meant)}")
    if not rows or len(set(names)) < len(names):
        raise UserError(f"--values={path} needs a line with names of settings, each once, and a line for each run.")
    fields = {setting.name: setting for _, setting in config_lib.settings()}
    found = []
    for number, row in enumerate(rows, start=2):
        if len(row) != len(names):
            raise UserError(f"--values={path}, row {number}: {len(row)} values for {len(names)} columns.")
        values = {}
        for name, text in zip(names, row):
            values[name] = value = _parse(text.strip(), str(fields[name].type))
            if wrong := config_lib.problem(fields[name], value):
                raise UserError(f"--values={path}, row {number}: {name} {text.strip()!r} {wrong}.")
        found.append(values)
    return found


def _hint(unknown: str, allowed: Sequence[str], meant: Callable[[str, Sequence[str]], list[str]]) -> str:
    """Ends the sentence about an unknown column."""
    if ";" in unknown:
        return ": columns are separated by commas."
    near = [name for name in meant(unknown, allowed) if name in allowed]
    if near:
        return f": did you mean {' or '.join(near)}?"
    return ": columns are names of settings" + (
        f", {', '.join(allowed)}." if len(allowed) <= _FEW else " (see --help)."
    )


def _parse(text: str, kind: str) -> Any:
    """Returns the value of this kind; the text itself if it is none."""
    try:
        if kind == "int":
            return int(text)
        if kind == "float":
            return float(text)
        return {"true": True, "false": False}[text.lower()] if kind == "bool" else text
    except (ValueError, KeyError):
        return text

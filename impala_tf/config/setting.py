"""How a setting is declared: a dataclass field with its help, range and choices."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

LONGEST = 1e6
"""Longest time in seconds, 11 days: the system's calls cannot wait much longer."""


def setting(
    default: Any,
    help: str,  # noqa: A002
    *,
    choices: tuple[str, ...] = (),
    extensible: bool = False,
    at_least: float = -math.inf,
    at_most: float = math.inf,
    fixed: bool = False,
    tunable: bool = False,
    path: bool = False,
) -> Any:
    """A dataclass field.

    An `extensible` setting is one of its choices or a user's own, as module:attribute (`impala_tf.extensions`). `fixed`
    settings shape what is learned, so a resumed run must have the same values. `tunable` ones are fixed, too,
    except that a population may change them between two starts of a run (`records.tuning`).
    """
    meta = {
        "help": help,
        "choices": choices,
        "extensible": extensible,
        "at_least": at_least,
        "at_most": at_most,
        "path": path,
    }
    return dataclasses.field(default=default, metadata={**meta, "fixed": fixed or tunable, "tunable": tunable})

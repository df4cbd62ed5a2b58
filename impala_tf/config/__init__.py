"""The settings of a run as one tree: building, checking and comparing them.

`environment.py`, `learning.py` and `running.py` declare them; `groups.py` puts them together.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import sys
from collections.abc import Iterator
from typing import Any

from impala_tf import extensions
from impala_tf.config import consistency
from impala_tf.config.environment import EnvironmentConfig
from impala_tf.config.groups import Config
from impala_tf.config.learning import CORRECTIONS, DataConfig, LossConfig, NetworkConfig, OptimizerConfig
from impala_tf.config.running import LaunchConfig, RunConfig
from impala_tf.config.setting import setting as _setting
from impala_tf.errors import UserError

__all__ = [
    "CORRECTIONS",
    "FIXED",
    "TUNABLE",
    "Config",
    "DataConfig",
    "EnvironmentConfig",
    "LaunchConfig",
    "LossConfig",
    "NetworkConfig",
    "OptimizerConfig",
    "RunConfig",
    "allowed",
    "field",
    "fixed_differences",
    "from_values",
    "problem",
    "settings",
    "to_values",
]

_KINDS: dict[str, tuple[str, Any]] = {
    "str": ("a text", str),
    "bool": ("true or false", bool),
    "int": ("a whole number", numbers.Integral),
    "float": ("a number", numbers.Real),
}
_LARGEST = 2**63 - 1  # Integers have 64 bits in checkpoints.


def settings() -> Iterator[tuple[str, dataclasses.Field]]:
    """Yields (group, field) for every setting; field names are unique over the groups."""
    for group in dataclasses.fields(Config):
        for setting in dataclasses.fields(getattr(Config, group.name)):
            yield group.name, setting


FIXED = frozenset(setting.name for _, setting in settings() if setting.metadata["fixed"])
"""Settings that shape what is learned: a resumed run must have the same."""

TUNABLE = tuple(setting.name for _, setting in settings() if setting.metadata["tunable"])
"""Fixed settings that a population may change between two starts of a run (Appendix F): `records.tuning` does it."""


def field(name: str, default: Any, help: str, **checks: Any) -> dataclasses.Field:  # noqa: A002
    """Returns what `settings` yields, for something that is no setting of a run; its type is the default's."""
    made = _setting(default, help, **checks)
    made.name, made.type = name, type(default).__name__
    return made


def allowed(setting: dataclasses.Field) -> str:
    """Says what a setting's values may be, as "at least 1" or "one of auto, on, off"; "" for any."""
    meta = setting.metadata
    if meta["choices"]:
        return f"one of {', '.join(meta['choices'])}" + f", or {extensions.FORM}" * meta["extensible"]
    low, high = meta["at_least"], meta["at_most"]
    return f"at least {low:g}" * (low > -math.inf) + f" and at most {high:g}" * (high < math.inf)


def problem(setting: dataclasses.Field, value: Any) -> str:
    """Says what a value of a setting must be instead, as "must be at least 1"; "" if it is right."""
    meta = setting.metadata
    kind, kinds = _KINDS[str(setting.type)]
    if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
        return f"must be {kind}"
    if meta["choices"]:
        own = meta["extensible"] and extensions.is_name(value)
        return "" if own or value in meta["choices"] else f"must be {allowed(setting)}"
    if not isinstance(value, (str, bool)):
        if not meta["at_least"] <= value <= meta["at_most"]:
            return f"must be {allowed(setting)}"
        if not value <= (_LARGEST if kinds is numbers.Integral else sys.float_info.max):
            return "must be finite" if value == math.inf else f"must be at most {_LARGEST}"
    return ""


def from_values(values: dict[str, Any]) -> Config:
    """Builds and validates a `Config` from {setting: value}; missing settings take their defaults.

    Raises:
      UserError: for an unknown setting, a value of another type or outside its range or choices, or values that
        contradict each other.
    """
    groups: dict[str, dict[str, Any]] = {group.name: {} for group in dataclasses.fields(Config)}
    known = {setting.name: (group, setting) for group, setting in settings()}
    for name, value in values.items():
        if name not in known:
            raise UserError(f"Unknown setting {name!r}.")
        group, setting = known[name]
        if wrong := problem(setting, value):
            raise UserError(f"--{name}={value}: {wrong}.")
        groups[group][name] = value
    types = {group.name: type(getattr(Config(), group.name)) for group in dataclasses.fields(Config)}
    config = Config(**{name: types[name](**chosen) for name, chosen in groups.items()})
    consistency.check(config)
    return config


def to_values(config: Config) -> dict[str, Any]:
    """The settings as a flat {setting: value}, the inverse of `from_values`."""
    return {setting.name: getattr(getattr(config, group), setting.name) for group, setting in settings()}


def fixed_differences(saved: dict[str, Any], config: Config) -> list[str]:
    """Differences that keep a run with `saved` settings from being resumed with `config`, one line each.

    Settings that do not shape what is learned may differ. total_frames is one of them, so that a run can be extended;
    where annealing_frames is 0, the learning rate's schedule then stretches with it.
    """
    now = to_values(config)
    lines = []
    for _, setting in settings():
        if setting.metadata["fixed"] and saved.get(setting.name, setting.default) != now[setting.name]:
            lines.append(f"--{setting.name}: {saved.get(setting.name, setting.default)} there, {now[setting.name]} now")
    return lines

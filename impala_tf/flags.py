"""absl flags: one for every setting in `impala_tf.config`, and what a command takes besides."""

from __future__ import annotations

import dataclasses
import decimal
import os
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from impala_tf import config as config_lib

GROUPS: dict[str, list[dataclasses.Field]] = {}
"""The flags that this process has defined: {what they are about: flags}, in the order of their definition."""

_LONGEST = 30  # Digits; nothing that is counted has as many.


class _Parser(flags.ArgumentParser):
    """Reads and checks the values of one setting."""

    def __init__(self, setting: dataclasses.Field):
        self._setting = setting

    def parse(self, argument: Any) -> Any:
        value = _READ[str(self._setting.type)](argument) if isinstance(argument, str) else argument
        if self._setting.metadata["path"]:
            value = os.path.expanduser(value)
        if wrong := config_lib.problem(self._setting, value):
            raise ValueError(wrong)
        return value

    def flag_type(self) -> str:
        return str(self._setting.type)


def define() -> None:
    """Defines a flag for every setting, in the groups of `config.Config`."""
    for group, setting in config_lib.settings():
        about = (type(getattr(config_lib.Config(), group)).__doc__ or group).splitlines()[0]
        _define(about, setting)


def define_setting(group: str, name: str) -> None:
    """Defines the flag of one setting, for a command that does not take all of them."""
    _define(group, next(setting for _, setting in config_lib.settings() if setting.name == name))


def define_own(group: str, name: str, default: Any, help: str, **checks: Any) -> None:  # noqa: A002
    """Defines a flag that is no setting of a run.

    Args:
      group: what the flags that --help lists together are about.
      name: of the flag.
      default: the value if the flag is not given; its type is the flag's.
      help: one or more sentences, with the unit.
      **checks: as for settings: `choices`, `at_least`, `at_most`, and `path` for values in which ~ is the home folder.
    """
    _define(group, config_lib.field(name, default, help, **checks))


def to_config() -> config_lib.Config:
    """Returns the settings from the parsed flags.

    Raises:
      UserError: raised by `config.from_values`.
    """
    return config_lib.from_values(
        {setting.name: flags.FLAGS[setting.name].value for _, setting in config_lib.settings()}
    )


def parse(lines: Sequence[str]) -> dict[str, Any]:
    """Returns {setting: value} of flags such as those of a flag file, independently of the command's own flags.

    Args:
      lines: flags as on a command line, such as "--core=lstm" or "--nofire_on_reset".

    Raises:
      absl.flags.Error: a flag is unknown, or its value is refused.
    """
    values = flags.FlagValues()
    for _, setting in config_lib.settings():
        _make(setting, values)
    values(["", *lines])
    return {name: values[name].value for name in values if values[name].present}


def _define(group: str, setting: dataclasses.Field) -> None:
    _make(setting, flags.FLAGS)
    GROUPS.setdefault(group, []).append(setting)


def _make(setting: dataclasses.Field, values: flags.FlagValues) -> None:
    text = setting.metadata["help"]
    if setting.type == "bool":
        flags.DEFINE_bool(setting.name, setting.default, text, flag_values=values)
    else:
        serializer = flags.ArgumentSerializer()
        flags.DEFINE(_Parser(setting), setting.name, setting.default, text, values, serializer)


def _whole_number(text: str) -> int:
    try:
        number = decimal.Decimal(text)
        if number.is_finite() and number.adjusted() < _LONGEST and number == number.to_integral_value():
            return int(number)
    except decimal.InvalidOperation:
        pass
    raise ValueError("must be a whole number, such as 2500000, 2_500_000 or 2.5e6")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("must be a number, such as 0.0006 or 6e-4") from None


_READ: dict[str, Callable[[str], Any]] = {"str": str, "int": _whole_number, "float": _number}

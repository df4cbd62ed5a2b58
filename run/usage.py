"""What --help prints."""

from __future__ import annotations

import dataclasses
import re
import shutil
import textwrap

from impala_tf import config as config_lib
from impala_tf import extensions, flags

_NARROWEST, _WIDEST = 50, 100
_INDENT = " " * 6
_KINDS = {"int": "<whole number>", "float": "<number>", "str": "<text>"}
_EVERY_COMMAND = """\
Every command
  --flagfile=<path>
      File with flags, one in a line. A flag may be given several times: the last one counts.
  -h, --help
      Prints this text.
  --version
      Prints the version.
"""
_ABOUT_STARS = "* shapes what is learned: a run that has begun can only be resumed with the value that it has."


def text(program: str, about: str, arguments: str = "") -> str:
    """Returns the help of a command: how it is called, and all flags that have been defined, by group.

    Args:
      program: name of the command.
      about: what it does, with an example.
      arguments: what it takes besides flags.
    """
    width = min(max(shutil.get_terminal_size((_WIDEST, 0)).columns, _NARROWEST), _WIDEST)
    called = " ".join(part for part in (program, arguments, "--name=value ...") if part)
    parts = [f"Usage: {called}", *(_filled(part, width) for part in about.strip().split("\n\n"))]
    for group, settings in flags.GROUPS.items():
        parts.append("\n".join([*textwrap.wrap(group, width), *(_flag(setting, width) for setting in settings)]))
    parts.append(_EVERY_COMMAND)
    if any(setting.metadata["fixed"] for settings in flags.GROUPS.values() for setting in settings):
        parts.append(textwrap.fill(_ABOUT_STARS, width))
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _filled(paragraph: str, width: int) -> str:
    """Fills a paragraph; lines that are indented, such as commands, stay as they are."""
    return paragraph if paragraph.startswith(" ") else textwrap.fill(paragraph, width, break_on_hyphens=False)


def _flag(setting: dataclasses.Field, width: int) -> str:
    meta, star = setting.metadata, "*" if setting.metadata["fixed"] else ""
    if setting.type == "bool":
        head = f"--[no]{setting.name}{star}"
    else:
        choices = [*meta["choices"], *[extensions.FORM] * meta["extensible"]]
        form = "|".join(choices) or ("<path>" if meta["path"] else _KINDS[str(setting.type)])
        head = f"--{setting.name}={form}{star}"
    facts = [] if setting.default == "" else [f"default: {_shown(setting.default)}"]
    if not meta["choices"] and (allowed := config_lib.allowed(setting)):
        facts.append(allowed)
    head += f"  ({'; '.join(facts)})" if facts else ""
    lines = textwrap.wrap(head, width, initial_indent="  ", subsequent_indent=_INDENT, break_long_words=False)
    for paragraph in meta["help"].splitlines():
        listed = re.match(r" +\S+ +", paragraph)  # A name and what it is.
        hanging = _INDENT + " " * (len(listed[0]) if listed else 0)
        lines += textwrap.wrap(paragraph, width, initial_indent=_INDENT, subsequent_indent=hanging)
    return "\n".join(lines)


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    return f"{default:_}" if isinstance(default, int) else str(default)

"""How the package's commands are started from the shell that started this process, for hints that can be pasted."""

from __future__ import annotations

import os
import pathlib
import shlex
import shutil
import sys


def line(name: str, *arguments: str) -> str:
    """Returns a command line, quoted for the shell.

    Args:
      name: of the command, such as "impala-train". It stays as it is if the shell finds it; otherwise it becomes the
        path of the command that is installed beside this program or its Python, or a call of Python.
      *arguments: of the command.
    """
    return shlex.join([*_start(name), *arguments])


def _start(name: str) -> list[str]:
    found = shutil.which(name)
    for program in (sys.argv[0], sys.executable):
        installed = pathlib.Path(program).absolute().parent / name
        if os.access(installed, os.X_OK):
            return [name] if found and os.path.samefile(found, installed) else [_shown(installed)]
    return [name] if found else [sys.executable, "-m", f"impala_tf.run.{name.removeprefix('impala-')}"]


def _shown(path: pathlib.Path) -> str:
    """The path as seen from the working directory, if it is below that; with a slash, so that no shell searches it."""
    here = pathlib.Path.cwd()
    if not path.is_relative_to(here):
        return str(path)
    return str(path.relative_to(here)) if path.parent != here else f"./{path.name}"

"""What a run was started with besides its settings: versions, commit, command, machine."""

from __future__ import annotations

import importlib.metadata
import pathlib
import platform
import shlex
import subprocess
import sys
import time

import impala_tf
from impala_tf import machine

_LIBRARIES = (
    *("tensorflow", "tensorflow-cpu", "dm-reverb", "numpy"),
    *("ale-py", "vizdoom", "minatar", "minigrid", "gymnasium"),
)


def describe() -> dict[str, object]:
    """Returns the versions, the git commit, the command, the machine and the time of this start, for config.json.

    The commit is None if the package is not part of a git repository, and ends with "-dirty" if files were changed.
    """
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": command(),
        "versions": versions(),
        "commit": commit(pathlib.Path(__file__).parent),
        "machine": machine.description(),
    }


def command() -> str:
    """Returns the command line of this start."""
    name = pathlib.Path(sys.argv[0]).name
    return shlex.join(["impala-train" if name == "train.py" else name, *sys.argv[1:]])


def versions() -> dict[str, str]:
    """Returns {name: version} of this package, of Python and of the installed libraries that matter to a run."""
    found = {"impala_tf": impala_tf.__version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit(folder: pathlib.Path) -> str | None:
    """Returns the commit of the repository whose files are in `folder`; None if there is none or git is missing."""
    # `ls-files`: a package that is installed into an environment inside another repository is no part of it.
    tracked = _git(folder, "ls-files", "--error-unmatch", "provenance.py")
    return _git(folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") if tracked else None


def _git(folder: pathlib.Path, *arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None

"""Checks that the installed libraries are compatible.

Reverb and TF-Agents are built for one release of TensorFlow; with any other, their native libraries fail to load with
undefined symbols. NumPy 2 breaks all three. This module reads only package metadata, so that it can report the problem
before anything is loaded.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import NamedTuple


class Requirement(NamedTuple):
    """A library and its compatible versions.

    Attributes:
      names: names of the distributions that provide it; the first is the one to install.
      install: argument for `pip install`.
      minimum: the first compatible version, (major, minor).
      below: the first version that is no longer compatible, (major, minor).
    """

    names: tuple[str, ...]
    install: str
    minimum: tuple[int, int]
    below: tuple[int, int]


REQUIREMENTS = (
    Requirement(("tensorflow", "tensorflow-cpu"), "tensorflow==2.15.1", (2, 15), (2, 16)),
    Requirement(("dm-reverb",), "dm-reverb==0.14.0", (0, 14), (0, 15)),
    Requirement(("tf-agents",), "tf-agents==0.19.0", (0, 19), (0, 20)),
    Requirement(("numpy",), "numpy<2", (1, 23), (2, 0)),
)


def check(
    requirements: tuple[Requirement, ...] = REQUIREMENTS,
    installed_version: Callable[[str], str] = importlib.metadata.version,
) -> None:
    """Checks that all required libraries are installed in compatible versions.

    Args:
      requirements: the required libraries.
      installed_version: returns the version of a distribution or raises `importlib.metadata.PackageNotFoundError`.

    Raises:
      ImportError: a library is missing or incompatible; the message says what to install.
    """
    problems = []
    for requirement in requirements:
        found = _find(requirement.names, installed_version)
        if found is None:
            problems.append(f"{requirement.names[0]} is not installed")
        elif not requirement.minimum <= _major_minor(found) < requirement.below:
            problems.append(f"{requirement.names[0]} is {found}")
    if problems:
        wanted = " ".join(f'"{requirement.install}"' for requirement in requirements)
        raise ImportError(f"impala_tf cannot run here: {', '.join(problems)}. Install: pip install {wanted}")


def _find(names: tuple[str, ...], installed_version: Callable[[str], str]) -> str | None:
    for name in names:
        try:
            return installed_version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _major_minor(version: str) -> tuple[int, int]:
    major, minor = [*version.split("."), "0"][:2]
    return int(major), int("".join(c for c in minor if c.isdigit()) or 0)

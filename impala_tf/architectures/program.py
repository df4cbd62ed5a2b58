"""Describes the processes of a run as plain values that a launcher can place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Node:
    """A process of a run.

    Attributes:
      name: name in messages and of the log file: "learner", "actor 0".
      work: what the process does; called with the number of times that it has been started before. It is pickled: a
        module's function, or a `functools.partial` of one.
      restarts: for an actor, whether it is restarted when it fails; otherwise its failure ends the run.
    """

    name: str
    work: Callable[[int], Any]
    restarts: bool = True


@dataclasses.dataclass(frozen=True)
class Program:
    """The processes of a run.

    Attributes:
      learners: the run ends when they end; SIGTERM asks them to save and end. Their work returns whether they were
        asked. The first one writes the run's folder.
      actors: run until they are killed.
    """

    learners: tuple[Node, ...]
    actors: tuple[Node, ...]

"""A program: the processes of a run, as plain values that a launcher can place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Node:
    """A process of a run.

    Attributes:
      name: for messages and log files: "learner", "actor 0".
      work: what it does; takes how often it has been started before. A function of a module or a `functools.partial`
        of one, since it may be pickled.
      restarts: whether it is restarted when it fails; otherwise its failure ends the run.
    """

    name: str
    work: Callable[[int], None]
    restarts: bool = True


@dataclasses.dataclass(frozen=True)
class Program:
    """The processes of a run.

    Attributes:
      learner: ends the run when it ends, and saves when it is asked to end.
      actors: act until they are killed.
    """

    learner: Node
    actors: tuple[Node, ...]

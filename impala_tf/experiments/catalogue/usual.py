"""The grids that most experiments have, with changes."""

from __future__ import annotations

import dataclasses
from typing import Any

from impala_tf.experiments.catalogue import one_machine, paper
from impala_tf.experiments.catalogue.grid import Agent, Grid


def on_one_machine(agents: tuple[Agent, ...], **changes: Any) -> Grid:
    """A grid with the tasks and settings of one machine, five seeds unless `changes` say otherwise."""
    return dataclasses.replace(
        Grid(agents, one_machine.TASKS, one_machine.SEEDS, settings=one_machine.SETTINGS), **changes
    )


def on_levels(agents: tuple[Agent, ...], **changes: Any) -> Grid:
    """A grid with the paper's five levels of DeepMind Lab and 24 combinations of hyperparameters."""
    return dataclasses.replace(
        Grid(agents, paper.LEVELS, one_machine.COMBINATIONS, "dmlab_shallow", paper.ACTORS), **changes
    )

"""Tells in text what experiments there are, which command lines make one, and what has come of it."""

from __future__ import annotations

import pathlib
import shlex
from collections.abc import Sequence

import numpy as np
import pandas as pd

from impala_tf.experiments import results, runs
from impala_tf.experiments.catalogue.grid import SCALES, Experiment, Grid, Planned
from impala_tf.records import csv_file

_TO_MEASURE = 3  # Runs from which the mean and the range of the final returns are given.


def overview(experiments: Sequence[Experiment], root: pathlib.Path) -> str:
    """Returns a line for each experiment: its name, how many of its runs there are at each scale, and its title.

    Args:
      experiments: the experiments.
      root: folder with a folder for each scale.
    """
    lines = [("", *(f"{scale}: trained" for scale in SCALES), "")]
    for each in experiments:
        lines.append((each.name, *(_there(each, scale, root / scale) for scale in SCALES), each.title))
        lines += [("", *("" for _ in SCALES), f"  {each.otherwise}")] * bool(each.otherwise)
    return aligned(lines)


def command_lines(grid: Grid, chosen: Sequence[Planned], root: pathlib.Path) -> str:
    """Returns the command line of each of the runs.

    Args:
      grid: the grid that they are from.
      chosen: the runs.
      root: folder of the scale.
    """
    setup = {"setup": grid.setup} if grid.setup else {}
    settings = ({**setup, **run.settings, "logdir": root / run.folder} for run in chosen)
    return "\n".join(shlex.join(["impala-train", *(runs.flag(*each) for each in of.items())]) for of in settings)


def outcome(experiment: Experiment, scale: str, table: pd.DataFrame) -> str:
    """Returns what an experiment has shown: the agents' final returns and scores, and what became of the claims.

    Args:
      experiment: the experiment.
      scale: of the runs.
      table: what they have reached, from `results.collect`.
    """
    grid = experiment.grids[scale]
    lines = [("", *(task.name for task in grid.tasks), *["score"] * grid.scored)]
    for agent in grid.agents:
        finals = results.finals(table, agent.folder)
        cells = [_spread(finals[task.name].dropna()) if task.name in finals else "-" for task in grid.tasks]
        if grid.scored:
            scores = results.scores(table, agent.folder, grid)
            cells.append(str(results.estimate(scores)) if len(scores) > 1 else "-")
        lines.append((", ".join(part for part in (agent.label, agent.group) if part), *cells))
    text = [aligned(lines)]
    if grid.scored:
        text += ["", *(f"{verdict.claim.text} {verdict}." for verdict in results.judge(experiment, scale, table))]
    return "\n".join(text)


def _there(experiment: Experiment, scale: str, root: pathlib.Path) -> str:
    if scale not in experiment.grids:
        return "-"
    planned = list(experiment.grids[scale].runs())
    trained = sum(
        float(csv_file.last(root / run.folder / "progress.csv").get("frames") or 0) >= run.settings["total_frames"]
        for run in planned
    )
    return f"{trained} of {len(planned)}"


def _spread(returns: pd.Series) -> str:
    """Mean and range of final returns."""
    if not len(returns):
        return "-"
    values = np.asarray(returns)
    inside = f" ({values.min():.2f} to {values.max():.2f})" if len(values) >= _TO_MEASURE else ""
    return f"{values.mean():.2f}{inside}"


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Returns a table as text, with its columns below each other."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)

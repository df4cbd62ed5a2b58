"""Populations in Figures 5, 6 and F.1: the best member's ancestry, and all members' hyperparameters.

A population is a folder with population.csv, written by `impala-pbt`; `impala_tf/experiments/population/record.py`
explains its columns.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from impala_tf.experiments.population import picture


def read(folder: pathlib.Path) -> pd.DataFrame | None:
    """Reads the population in a folder; None if there is none, or nobody has been evaluated yet."""
    file = folder / "population.csv"
    rows = pd.read_csv(file) if file.exists() and file.stat().st_size else None
    return rows if rows is not None and len(rows) else None


def best_agent(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns what the best member's ancestry has been through, as a run's progress.csv has it.

    The paper reconstructs its curves in the same way (Appendix F): from the last evaluation backwards, going on with
    the other member wherever there was a copy. Frames, fitness, `seconds` of training, and each hyperparameter; the
    fitness is there as `human_normalised_mean_capped`, too, which it is for DMLab-30.
    """
    found = picture.ancestry(rows)
    return found.assign(human_normalised_mean_capped=found["fitness"])


def draw_curve(ax: Any, rows: pd.DataFrame, color: str, scale: float = 1e9, percent: float = 100, **style: Any) -> None:
    """Draws Figure 5's curve: fitness of the best member's ancestry against its frames.

    Args:
      ax: axes to draw on.
      rows: of `read`.
      color: of the curve.
      scale: frames per unit of the x axis.
      percent: by which the fitness is multiplied.
      **style: of the line.
    """
    agent = best_agent(rows).dropna(subset=["fitness"])
    ax.plot(agent["frames"] / scale, percent * agent["fitness"], color=color, **style)


def draw_schedule(ax: Any, rows: pd.DataFrame, color: str, column: str = "learning_rate", scale: float = 1e9) -> None:
    """Draws Figure F.1: a hyperparameter over frames, of all members (thin) and of the best one's ancestry (thick)."""
    picture.draw_column(ax, rows, column, color, scale)


def against_sweep(populations: Mapping[str, pathlib.Path], sweep: pathlib.Path, column: str) -> Any:
    """Draws populations beside a fixed sweep from the same values, up to the same frames.

    Args:
      populations: {title: folder of a population}.
      sweep: folder of the sweep, with sweep.csv and, by combination, <number>.csv or <number>/progress.csv.
      column: hyperparameter that was adapted and swept.

    Returns:
      The figure: a row for each population, with its fitness, its hyperparameter, and the sweep's curves.
    """
    figure, axes = plt.subplots(
        len(populations), 3, figsize=(13, 3.4 * len(populations)), squeeze=False, layout="constrained"
    )
    for (fitness, values, fixed), (title, folder) in zip(axes, populations.items()):
        rows = read(folder)
        picture.draw_column(fitness, rows, "fitness")
        picture.draw_column(values, rows, column)
        values.set(title=title, ylabel=column.replace("_", " "), yscale="log")
        for run in pd.read_csv(sweep / "sweep.csv").itertuples():
            files = (sweep / f"{run.combination:02}.csv", sweep / f"{run.combination:02}" / "progress.csv")
            curve = pd.read_csv(next(file for file in files if file.exists()))
            fixed.plot(curve["frames"] / 1e6, curve["mean_return_100"], label=f"{getattr(run, column):g}", linewidth=1)
        fixed.legend(title=column.replace("_", " "), fontsize="small")
        fixed.set(title="fixed, the same frames")
        last = rows["frames"].max() / 1e6
        for ax in (fitness, values, fixed):
            ax.set(xlim=(0, 1.02 * last), xlabel="environment frames of a member (millions)")
        for ax in (fitness, fixed):
            ax.set(ylim=(-1.05, 1.05), ylabel="return")
        fitness.set_title(title)
    axes[0][0].legend(fontsize="small")
    return figure

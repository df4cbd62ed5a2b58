"""Styles the notebooks' figures, writes their headings and legends, and saves them.

The paper's numbers are always drawn dashed; runs are drawn solid, in the same color as the paper's curve of the same
agent.
"""

from __future__ import annotations

import io
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import PIL.Image
import reading
from IPython.display import Image
from matplotlib.lines import Line2D

from impala_tf.experiments import catalogue, picture, results

# `make figures FIGURES=...` sets it.
FIGURES = pathlib.Path(os.environ.get("IMPALA_FIGURES", reading.HERE / "figures"))

BLUE, SKY, GREEN, ORANGE, RED, PURPLE, LILAC, GRAY = (
    *("#1f5fa8", "#5fa8d3", "#1b8a6b", "#e08a1e", "#b2182b", "#5e3c99", "#a98bd0", "#8a8a8a"),
)
COLORS = {
    "IMPALA - 1 GPU - 200 actors": BLUE,
    "Batched A2C - Single Machine - 32 workers": ORANGE,
    "A3C - Single Machine - 32 workers": "#ef8a7a",
    "A3C - Distributed - 200 workers": RED,
    "IMPALA, deep, PBT - 8 GPUs": LILAC,
    "IMPALA, deep, PBT": PURPLE,
    "IMPALA, deep": BLUE,
    "IMPALA, shallow": SKY,
    "IMPALA-Experts, deep": GREEN,
    "A3C, deep": RED,
    "V-trace": BLUE,
    "1-Step": GREEN,
    "epsilon-correction": ORANGE,
    "No-correction": GRAY,
}
"""Colors of agents and of off-policy correction variants, by their names in the paper."""

PAPER = {"linestyle": (0, (4, 2)), "linewidth": 1.3}
OURS = {"linestyle": "-", "linewidth": 1.8}

STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "axes.prop_cycle": matplotlib.cycler(color=("black", GRAY, "#b8860b", "#c86b9c")),  # Used by none of `COLORS`.
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "grid.alpha": 0.25,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "savefig.dpi": 110,
    "svg.hashsalt": "impala_tf",  # Without a salt, the ids in SVG files are random.
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}
matplotlib.rcParams.update(STYLE)


def heading(figure: Any, title: str, line: str, color: str = "#444444") -> None:
    """Writes the title and a line below it above all panels."""
    height = figure.get_figheight()
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - 0.48 / height))
    figure.text(0.008, 1 - 0.07 / height, title, va="top", fontsize=11, fontweight="bold")
    figure.text(0.008, 1 - 0.28 / height, line, va="top", fontsize=9, color=color)


def heading_of_runs(figure: Any, title: str, where: str, runs: int, reference: str = "") -> None:
    """Writes the title and the number of runs drawn, or a note in red that there are none.

    Args:
      figure: figure to write on.
      title: one line.
      where: folder that was searched for runs.
      runs: number of runs found.
      reference: explains how the paper's reference is drawn, if not simply as dashed curves.
    """
    if runs:
        heading(figure, title, f"{runs} run{'s' * (runs != 1)} in {where} (solid); {reference or 'dashed: the paper'}")
    else:
        line = f"no runs in {where}: only the paper's reference" + f" ({reference})" * bool(reference)
        heading(figure, title, line, RED)


def legend(figure: Any, names: Iterable[str], columns: int = 4, colors: Mapping[str, str] = COLORS) -> None:
    """Adds one legend of agents or variants below all panels; the heading explains dashed and solid."""
    style = {"linestyle": "none", "marker": "s", "markersize": 7}
    handles = [Line2D([], [], color=colors[name], label=name, **style) for name in names]
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handletextpad=0.2)


def one_machine(
    ax: Any, folder: str, title: str, column: str = "mean_return_100", against: str = "frames", **style: Any
) -> int:
    """Plots a run from data/, made on one machine and on another task than the paper's, and one's own runs of its task.

    Args:
      ax: axes to plot on.
      folder: name of the run's folder in data/.
      title: title of the axes.
      column: column of progress.csv to plot.
      against: "frames", plotted in millions, or "hours".
      **style: of the run from data/.

    Returns:
      The number of one's own runs, found by `reading.own_runs`.
    """
    run = reading.read_run(reading.DATA / folder)
    found = reading.own_runs(run.config["env"])
    # Own runs first: the cycle of colors has none of `COLORS`.
    for label, its, look in [*((name, its, {}) for name, its in found.items()), ("in the repository", run, style)]:
        x, values = its.curve(column, against)
        percent = 100 if column.startswith("human_normalised") else 1
        look = {**OURS, **({} if its is not run else {"color": SKY}), **look}
        ax.plot(x / 1e6 if against == "frames" else x, percent * values, **{"label": label * bool(found), **look})
    ax.set_title(title)
    ax.set_xlabel("environment frames (millions)" if against == "frames" else "hours")
    if found:
        ax.legend()
    return len(found)


def on_one_machine(name: str) -> Any:
    """Draws the grid of an experiment that one machine can train, with a note in red if there are no runs.

    Args:
      name: of the experiment. Its runs are those of data/one_machine/<name>.csv, or else those below `reading.RUNS`.
    """
    experiment = catalogue.find(name)
    grid, kept = experiment.grids["machine"], reading.DATA / "one_machine" / f"{name}.csv"
    table = results.read(kept) if kept.exists() else results.collect(grid, reading.RUNS / "machine")
    title = f"{experiment.title}, on one machine"
    if len(table):
        return picture.draw(title, grid, table)
    figure = plt.figure(figsize=(8, 0.6))
    heading(figure, title, f"no runs yet: impala-experiment run {name}", RED)
    return figure


def save(figure: Any, name: str) -> Image:
    """Writes <name>.png and <name>.svg to `FIGURES`, reproducibly to the byte, and closes the figure.

    Returns:
      The picture; a notebook displays it if the call is the last expression of a cell.
    """
    FIGURES.mkdir(parents=True, exist_ok=True)
    picture = io.BytesIO()
    figure.savefig(picture)
    # 256 colors are enough and reduce the file to a third of its size.
    pixels = PIL.Image.open(picture).convert("RGB").quantize(256, dither=PIL.Image.Dither.NONE)
    pixels.save(FIGURES / f"{name}.png", optimize=True)
    figure.set_layout_engine("none")  # The layout is final, and computing it again would take most of the time.
    figure.savefig(FIGURES / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)
    return Image(filename=FIGURES / f"{name}.png")

"""Shared code of the notebooks: reads runs and evaluations, ranks and averages them, and styles the figures.

A run is a folder written by `impala-train`, with progress.csv and optionally tasks.csv and config.json; a set of runs
is a folder of run folders. Frames are environment frames. The paper's numbers are in data/, each file with its source,
and are always drawn dashed; runs are drawn solid, in the same color as the paper's curve of the same agent.
"""

from __future__ import annotations

import io
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import PIL.Image
import populations
from IPython.display import Image
from matplotlib.lines import Line2D

from impala_tf import suites
from impala_tf.suites import tasks

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent
DATA = HERE / "data"
# `make figures RUNS=... FIGURES=...` sets these.
RUNS = pathlib.Path(os.environ.get("IMPALA_RUNS", ROOT / "runs"))
FIGURES = pathlib.Path(os.environ.get("IMPALA_FIGURES", HERE / "figures"))

LAB_LEVELS = (
    "rooms_watermaze",
    "rooms_keys_doors_puzzle",
    "lasertag_three_opponents_small",
    "explore_goal_locations_small",
    "seekavoid_arena_01",
)
"""The levels of Figures 4 and E.1 to E.4 and of Table 2."""

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

# Runs and evaluations


class Run(NamedTuple):
    """A training run.

    Attributes:
      name: name of its folder.
      progress: progress.csv, one row per log interval, with frames, seconds, mean_return_100, ...
      tasks: tasks.csv, one row per log interval and task; None for a single-task run.
      config: config.json; empty if there is none.
    """

    name: str
    progress: pd.DataFrame
    tasks: pd.DataFrame | None = None
    config: Mapping[str, Any] = {}

    def plays(self, env: str) -> bool:
        """Returns whether the run's settings name these environments, given as for --env, in whichever order."""
        own = self.config.get("env")
        return own is not None and set(tasks.names(own)) == set(tasks.names(env))

    def curve(self, column: str = "mean_return_100", against: str = "frames") -> tuple[np.ndarray, np.ndarray]:
        """Returns two columns of progress.csv, or "hours", without the rows before the first episode ended."""
        rows = self.progress.assign(hours=self.progress["seconds"] / 3600)[[against, column]].dropna()
        return rows[against].to_numpy(), rows[column].to_numpy()

    def final(self, column: str = "mean_return_100") -> float:
        """Returns the last value of a column, by default the mean return of the last 100 episodes; NaN if none."""
        values = self.progress[column].dropna() if column in self.progress else ()
        return float(values.iloc[-1]) if len(values) else float("nan")

    def final_by_task(self) -> pd.Series:
        """Returns the last human-normalized score of each task of a multi-task run, by environment id."""
        return self.tasks.groupby("task")["human_normalised"].last()


def read_run(folder: pathlib.Path) -> Run:
    """Reads the run in a folder.

    Raises:
      FileNotFoundError: the folder has no progress.csv.
    """
    by_task, config = folder / "tasks.csv", folder / "config.json"
    return Run(
        folder.name,
        pd.read_csv(folder / "progress.csv"),
        pd.read_csv(by_task) if by_task.exists() else None,
        json.loads(config.read_text()) if config.exists() else {},
    )


def read_runs(folder: pathlib.Path, env: str | None = None) -> list[Run]:
    """Reads a set of runs, sorted by name, skipping runs without rows; returns none if the folder does not exist.

    Args:
      folder: folder of run folders.
      env: the environments that they must have played, as for --env; others are left out, and a line says so.
    """
    runs = [read_run(file.parent) for file in sorted(folder.glob("*/progress.csv")) if file.stat().st_size]
    for run in runs:
        if env and not run.plays(env):
            print(f"{folder / run.name} is not drawn: it played {run.config.get('env', 'an unknown task')}, not {env}")
    return [run for run in runs if len(run.progress) and (env is None or run.plays(env))]


def own_runs(env: str) -> dict[str, Run]:
    """Returns {folder: run} of the runs anywhere below `RUNS` that played these environments, given as for --env."""
    found = {}
    for file in sorted(RUNS.glob("**/progress.csv")):
        # A run that was started afresh keeps its earlier records in such a folder.
        if not file.parent.name.startswith("earlier-") and file.stat().st_size:
            run = read_run(file.parent)
            if len(run.progress) and run.plays(env):
                found[str(file.parent.relative_to(RUNS))] = run
    return found


def best(runs: Iterable[Run], k: int | None = None, column: str = "mean_return_100") -> list[Run]:
    """Returns the k runs with the highest final values (None: all), best first, skipping runs without a value."""
    return sorted((run for run in runs if run.final(column) == run.final(column)), key=lambda r: -r.final(column))[:k]


def mean_curve(
    runs: Sequence[Run], column: str = "mean_return_100", against: str = "frames", points: int = 200
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean curve of several runs, [points] each, interpolated linearly where all of them have values."""
    curves = [run.curve(column, against) for run in runs]
    x = np.linspace(max(xs[0] for xs, _ in curves), min(xs[-1] for xs, _ in curves), points)
    return x, np.mean([np.interp(x, xs, ys) for xs, ys in curves], axis=0)


def sorted_finals(runs: Iterable[Run], column: str = "mean_return_100") -> list[float]:
    """Returns the final values, highest first; the paper plots them to show stability over hyperparameters."""
    return [run.final(column) for run in best(runs, column=column)]


DMLAB30_FOLDERS = {
    "IMPALA, deep, PBT - 8 GPUs": "impala_deep_pbt_8_gpus",
    "IMPALA, deep, PBT": "impala_deep_pbt",
    "IMPALA, deep": "impala_deep",
    "IMPALA, shallow": "impala_shallow",
    "IMPALA-Experts, deep": "impala_experts_deep",
    "A3C, deep": "a3c_deep",
}
"""Folders of Figure 5's agents under runs/figure_5/."""


def dmlab30_runs() -> dict[str, list[Run]]:
    """Returns the runs of Figure 5's agents, best mean capped score first.

    A set of experts is merged into one run, and a population is its best member's ancestry.
    """
    found = {}
    for agent, name in DMLAB30_FOLDERS.items():
        folder = RUNS / "figure_5" / name
        if "Experts" in agent:
            levels = suites.env_ids("dmlab30")
            sets = [read_runs(combination) for combination in sorted(folder.glob("*"))]
            sets = [[run for run in runs if run.config.get("env") in levels] for runs in sets]
            runs = [together(its) for its in sets if its]
        elif (population := populations.read(folder)) is not None:
            runs = [Run(name, populations.best_agent(population))]
        else:
            runs = read_runs(folder, "dmlab30")
        found[agent] = best(runs, column="human_normalised_mean_capped")
    return found


def together(runs: Sequence[Run]) -> Run:
    """Merges single-task experts into one run of all tasks, whose frames and seconds are the sums of theirs.

    The score at a number of frames is the mean of the capped scores that each expert has after its share of them.
    """
    scored = [run._replace(progress=run.progress.dropna(subset=["human_normalised"])) for run in runs]
    scored = [
        run._replace(progress=run.progress.assign(capped=run.progress["human_normalised"].clip(upper=1)))
        for run in scored
    ]
    frames, score = mean_curve(scored, "capped")
    seconds = mean_curve(scored, "seconds")[1]
    progress = {"frames": frames * len(runs), "seconds": seconds * len(runs), "human_normalised_mean_capped": score}
    finals = [{"task": run.config["env"], "human_normalised": run.final("human_normalised")} for run in runs]
    return Run("experts", pd.DataFrame(progress), pd.DataFrame(finals))


def read_evaluations(*folders: pathlib.Path) -> dict[str, dict[str, float]]:
    """Reads the results of `impala-evaluate --output=<folder>/<label>.json` in the folders.

    A subfolder holds the results of experts, one file per task. They share one label, the name of the subfolder.

    Returns:
      {label: {environment id: mean return}}.
    """
    found: dict[str, dict[str, float]] = {}
    for folder in folders:
        for path in sorted(folder.glob("*")):
            files = sorted(path.glob("*.json")) if path.is_dir() else [path] if path.suffix == ".json" else []
            for file in files:
                tasks = json.loads(file.read_text())["tasks"]
                found.setdefault(path.stem, {}).update({name: task["mean"] for name, task in tasks.items()})
    return found


def paper(name: str) -> dict[str, Any]:
    """Reads the paper's numbers from data/<name>.json."""
    return json.loads((DATA / f"{name}.json").read_text())


# Figures


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
      The number of one's own runs, found by `own_runs`.
    """
    run = read_run(DATA / folder)
    found = own_runs(run.config["env"])
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

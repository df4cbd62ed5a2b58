"""Reads runs and evaluations for the notebooks, ranks them and averages them.

A run is a folder written by `impala-train`, with progress.csv and optionally tasks.csv and config.json; a set of runs
is a folder of run folders. Which runs an experiment of the paper has, and in which folders, is in
`impala_tf.experiments.catalogue`. Frames are environment frames. The paper's numbers are in data/, each file with its
source.
"""

from __future__ import annotations

import json
import os
import pathlib
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import populations

from impala_tf.experiments import catalogue
from impala_tf.experiments.catalogue.grid import Agent, Grid, Task
from impala_tf.suites import tasks

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent
DATA = HERE / "data"
# `make figures RUNS=...` sets it.
RUNS = pathlib.Path(os.environ.get("IMPALA_RUNS", ROOT / "runs"))


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
            played = run.config.get("env", "an unknown task")
            wanted = textwrap.shorten(env.replace(",", ", "), 80)
            print(f"{folder / run.name} is not drawn: it played {played}, not {wanted}")
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


def runs_of(grid: Grid, agent: Agent, task: Task | None = None) -> list[Run]:
    """Reads an agent's runs at the paper's scale, as `read_runs` does; the catalogue knows their folder and their task.

    Args:
      grid: the experiment's runs.
      agent: one of its agents.
      task: one of its tasks; None for an agent whose runs train on all of them.
    """
    planned = next(run for run in grid.runs() if run.agent == agent and task in (None, *run.tasks))
    return read_runs(RUNS / "paper" / planned.folder.parent, planned.settings["env"])


def folders(name: str) -> str:
    """Names the folders of an experiment's runs at the paper's scale: "runs/paper/table_2 and runs/paper/figure_e3"."""
    agents = catalogue.find(name).grids["paper"].agents
    return " and ".join(dict.fromkeys(f"runs/paper/{agent.folder.partition('/')[0]}" for agent in agents))


def dmlab30_runs() -> dict[str, list[Run]]:
    """Returns the runs of Figure 5's agents, in the paper's order, best mean capped score first.

    The experts of a combination are merged into one run, and a population is its best member's ancestry.
    """
    experiment, found = catalogue.find("figure_5"), {}
    grid = experiment.grids["paper"]
    agents = {agent.label: agent for agent in grid.agents}
    for label in paper("figure_5")["curves"]:
        if label in experiment.populations:
            population = populations.read(RUNS / "paper" / experiment.populations[label])
            runs = [] if population is None else [Run(label, populations.best_agent(population))]
        elif agents[label].together:
            runs = runs_of(grid, agents[label])
        else:
            levels = [{run.name: run for run in runs_of(grid, agents[label], task)} for task in grid.tasks]
            sets = [[its[name] for its in levels if name in its] for name in grid.repeats]
            runs = [together(its) for its in sets if its]
        found[label] = best(runs, column="human_normalised_mean_capped")
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

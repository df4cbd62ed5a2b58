"""Draws an experiment: learning curves, and scores with their intervals."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import pandas as pd

from impala_tf.experiments import results
from impala_tf.experiments.catalogue.grid import Agent, Grid

_COLORS = ("#1f5fa8", "#1b8a6b", "#e08a1e", "#8a8a8a", "#5e3c99", "#b2182b")
_POINTS = 60
_CHARACTERS = 12  # Of the title and the legend, per inch.
_MANY_FRAMES = 10_000_000


def draw(title: str, grid: Grid, table: pd.DataFrame) -> Any:
    """Draws the runs of an experiment: a row for each group of agents, a column for each task.

    Curves are means over the repeats, or over the best 3 of a sweep, with the range of the runs; at the right of each
    row are interquartile means of the scores with their 95% intervals, if the grid has scores. A sweep has the final
    returns of all its runs, best first, below its curves.

    Args:
      title: of the picture.
      grid: the runs.
      table: what they have reached, from `results.collect`; agents without runs are left out.

    Returns:
      A matplotlib figure.
    """
    import matplotlib.figure

    groups = list(dict.fromkeys(agent.group for agent in grid.agents))
    labels = list(dict.fromkeys(agent.label for agent in grid.agents))
    colors = {label: _COLORS[i % len(_COLORS)] for i, label in enumerate(labels)}
    sweep = grid.sweep
    rows, columns = len(groups) * (2 if sweep else 1), len(grid.tasks) + grid.scored
    width = 3.1 * columns
    figure = matplotlib.figure.Figure(figsize=(width, 2.6 * rows + 0.8), layout="constrained", dpi=110)
    axes = figure.subplots(rows, columns, squeeze=False)
    for number, group in enumerate(groups):
        agents = [agent for agent in grid.agents if agent.group == group]
        curves = axes[number * (2 if sweep else 1)]
        for task, ax in zip(grid.tasks, curves):
            unit, name = (1e6, "millions") if task.settings["total_frames"] >= _MANY_FRAMES else (1e3, "thousands")
            for agent in agents:
                _draw_curve(ax, table, agent, task.name, colors[agent.label], unit, best=3 if sweep else 0)
            ax.set(xlabel=f"environment frames ({name})")
        curves[0].set_ylabel(f"{group}\nreturn".strip())
        if grid.scored:
            _draw_scores(curves[-1], grid, table, agents, colors)
        if sweep:
            sorted_row = axes[number * 2 + 1]
            for task, ax in zip(grid.tasks, sorted_row):
                for agent in agents:
                    _draw_finals(ax, table, agent, task.name, colors[agent.label])
                ax.set(xlabel="combination, best first")
            sorted_row[0].set_ylabel("final return")
            if grid.scored:
                sorted_row[-1].set_axis_off()
    for task, ax in zip(grid.tasks, axes[0]):
        ax.set_title(task.name.replace("_", " "), fontsize=11)
    for ax in axes.flat:
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    handles = [matplotlib.lines.Line2D([], [], color=color, label=label) for label, color in colors.items()]
    fitting = int(width * _CHARACTERS / (max(map(len, labels)) + 8))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=max(1, min(len(labels), fitting)), frameon=False, fontsize=10
    )
    kind = f"best 3 of {len(grid.repeats)} combinations" if sweep else f"{len(grid.repeats)} seeds"
    kind = kind if len(grid.repeats) > 1 else "one seed"
    about = f"mean and range of the {kind}" + "; scores: interquartile mean, 95% interval" * grid.scored
    lines = [line for text in (title, about) for line in textwrap.wrap(text, int(width * _CHARACTERS))]
    figure.suptitle("\n".join(lines), fontsize=10)
    return figure


def _draw_curve(ax: Any, table: pd.DataFrame, agent: Agent, task: str, color: str, unit: float, best: int = 0) -> None:
    own = table[(table["agent"] == agent.folder) & (table["task"] == task)]
    runs = [rows for _, rows in own.groupby("repeat")]
    if best:
        runs = sorted(runs, key=lambda rows: -rows["mean_return_100"].iloc[-1])[:best]
    if not runs:
        return
    frames = np.linspace(
        max(rows["frames"].min() for rows in runs), min(rows["frames"].max() for rows in runs), _POINTS
    )
    curves = np.array([np.interp(frames, rows["frames"], rows["mean_return_100"]) for rows in runs])
    ax.plot(frames / unit, curves.mean(0), color=color, linewidth=1.8)
    ax.fill_between(frames / unit, curves.min(0), curves.max(0), color=color, alpha=0.07, linewidth=0)
    for edge in (curves.min(0), curves.max(0)):  # Where several ranges lie on each other, their colors mix.
        ax.plot(frames / unit, edge, color=color, alpha=0.5, linewidth=0.6)


def _draw_finals(ax: Any, table: pd.DataFrame, agent: Agent, task: str, color: str) -> None:
    finals = results.finals(table, agent.folder)
    if task in finals:
        its = np.sort(finals[task].dropna())[::-1]
        ax.plot(range(1, len(its) + 1), its, ".-", color=color, linewidth=1)


def _draw_scores(ax: Any, grid: Grid, table: pd.DataFrame, agents: list[Agent], colors: dict[str, str]) -> None:
    lowest = 0.0
    for place, agent in enumerate(agents):
        scores = results.scores(table, agent.folder, grid)
        if len(scores) < 2:
            continue
        value, low, high = results.estimate(scores)
        lowest = min(lowest, low)
        ax.errorbar(value, -place, xerr=[[value - low], [high - value]], fmt="o", color=colors[agent.label], capsize=3)
    ax.set(yticks=[-place for place in range(len(agents))], yticklabels=[agent.label for agent in agents])
    ax.set(xlabel="score: 0 random, 1 best run", ylim=(0.5 - len(agents), 0.5), xlim=(lowest - 0.1, 1.05))

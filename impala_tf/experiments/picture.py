"""Draws an experiment: learning curves, and scores with their intervals."""

from __future__ import annotations

import math
import textwrap
from typing import Any

import numpy as np
import pandas as pd

from impala_tf.experiments import results
from impala_tf.experiments.catalogue.grid import Agent, Grid, Task

_COLORS = ("#1f5fa8", "#1b8a6b", "#e08a1e", "#8a8a8a", "#5e3c99", "#b2182b")
_POINTS = 60
_ACROSS = 6  # Tasks beside each other.
_CHARACTERS = 12  # Of the title and the legend, per inch.
_MANY_FRAMES = 10_000_000


def draw(title: str, grid: Grid, table: pd.DataFrame) -> Any:
    """Draws the runs of an experiment: a block of panels for each group of agents, one for each task.

    Curves are means over the repeats, or over the best 3 of a sweep, with the range of the runs; at the right of each
    block are interquartile means of the scores with their 95% intervals, if the grid has scores. A sweep has the final
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
    across = min(len(grid.tasks), _ACROSS)
    height = math.ceil(len(grid.tasks) / across)  # Rows of a block.
    blocks = [(group, finals) for group in groups for finals in (False, True)[: 1 + grid.sweep]]
    width = 3.1 * (across + grid.scored)
    rows = height * len(blocks)
    figure = matplotlib.figure.Figure(figsize=(width, 2.6 * rows + 0.8), layout="constrained", dpi=110)
    axes = figure.subplots(rows, across + grid.scored, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()  # Until something is drawn there.
    for number, (group, finals) in enumerate(blocks):
        agents = [agent for agent in grid.agents if agent.group == group]
        block = axes[number * height : (number + 1) * height]
        for task, ax in zip(grid.tasks, block[:, :across].flat):
            _draw_task(ax, grid, table, agents, task, colors, finals)
            if number == 0 or height > 1:
                ax.set_title(task.name.replace("_", " "), fontsize=11)
        block[0, 0].set_ylabel("final return" if finals else f"{group}\nreturn".strip())
        if grid.scored and not finals:
            _draw_scores(block[0, -1], grid, table, agents, colors)
    handles = [matplotlib.lines.Line2D([], [], color=color, label=label) for label, color in colors.items()]
    fitting = int(width * _CHARACTERS / (max(map(len, labels)) + 8))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=max(1, min(len(labels), fitting)), frameon=False, fontsize=10
    )
    kind = f"best 3 of {len(grid.repeats)} combinations" if grid.sweep else f"{len(grid.repeats)} seeds"
    kind = kind if len(grid.repeats) > 1 else "one seed"
    about = f"mean and range of the {kind}" + "; scores: interquartile mean, 95% interval" * grid.scored
    lines = [line for text in (title, about) for line in textwrap.wrap(text, int(width * _CHARACTERS))]
    figure.suptitle("\n".join(lines), fontsize=10)
    return figure


def _draw_task(
    ax: Any, grid: Grid, table: pd.DataFrame, agents: list[Agent], task: Task, colors: dict[str, str], finals: bool
) -> None:
    _turn_on(ax)
    unit, name = (1e6, "millions") if task.settings["total_frames"] >= _MANY_FRAMES else (1e3, "thousands")
    for agent in agents:
        color = colors[agent.label]
        if finals:
            _draw_finals(ax, table, agent, task.name, color)
        else:
            _draw_curve(ax, table, agent, task.name, color, unit, best=3 if grid.sweep else 0)
    ax.set(xlabel="combination, best first" if finals else f"environment frames ({name})")


def _turn_on(ax: Any) -> None:
    ax.set_axis_on()
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)


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
    _turn_on(ax)
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

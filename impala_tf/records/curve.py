"""The learning curves that a run leaves in its folder."""

from __future__ import annotations

import math
from typing import Any

from impala_tf.records import csv_file
from impala_tf.records.logdir import LogDir, replacing


def draw(logdir: LogDir, title: str) -> bool:
    """Draws mean returns of the last 100 full episodes against environment frames, from the run's CSV files.

    Of several tasks each gets its own axes, and the human-normalised scores over all of them share one.

    Args:
      logdir: of the run; the picture becomes its `curve`.
      title: of the picture.

    Returns:
      False, and nothing is written, if no episode had ended yet.
    """
    import matplotlib.figure  # Takes a second; only needed at the end of a run.

    run, tasks = csv_file.read(logdir.progress), csv_file.read(logdir.tasks)
    if run is None or run["mean_return_100"].isna().all():
        return False
    if tasks is None:
        figure = matplotlib.figure.Figure(figsize=(7, 4), layout="constrained")
        _curve(figure.subplots(), run, "return, mean of the last 100 episodes")
    else:
        figure = _grid(matplotlib.figure.Figure, run, tasks)
    figure.suptitle(title)
    with replacing(logdir.curve) as partial:
        figure.savefig(partial, dpi=120)
    return True


def _grid(figure_type: Any, run: Any, tasks: Any) -> Any:
    """One pair of axes per task and, last, the scores over all of them."""
    names = list(dict.fromkeys(tasks["task"]))
    scored = "human_normalised_median" in run
    columns = min(8, max(2, math.ceil(math.sqrt(len(names) + scored))))
    rows = math.ceil((len(names) + scored) / columns)
    figure = figure_type(figsize=(3.4 * columns, 2.4 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for name, ax in zip(names, axes):
        its = tasks[tasks["task"] == name]
        _curve(ax, its, "return")
        score = its["human_normalised"].iloc[-1]
        ax.set_title(name if math.isnan(score) else f"{name}, {score:.0%} of human at last", fontsize="medium")
    if scored:
        ax = axes[len(names)]
        for what in ("median", "mean", "mean_capped"):
            points = run[["frames", f"human_normalised_{what}"]].dropna()
            ax.plot(points["frames"] / 1e6, 100 * points[f"human_normalised_{what}"], label=what.replace("_", " "))
        ax.legend(fontsize="small")
        ax.set_title("human-normalised score, all tasks", fontsize="medium")
        ax.set_ylabel("%")
        ax.grid(alpha=0.3)
    for ax in axes[len(names) + scored :]:
        ax.remove()
    figure.supxlabel("environment frames of the whole run (millions)", fontsize="medium")
    return figure


def _curve(ax: Any, rows: Any, label: str) -> None:
    points = rows[["frames", "mean_return_100"]].dropna()  # NaN before the first episode's end.
    ax.plot(points["frames"] / 1e6, points["mean_return_100"], marker="." if len(points) < 20 else None)
    ax.set_ylabel(label)
    ax.grid(alpha=0.3)
    if "task" not in rows:
        ax.set_xlabel("environment frames (millions)")

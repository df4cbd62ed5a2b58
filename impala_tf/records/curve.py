"""The learning curve of a run, as a picture in the run's folder."""

from __future__ import annotations

import math
from typing import Any

from impala_tf.files import replacing
from impala_tf.records import csv_file
from impala_tf.records.logdir import LogDir


def draw(logdir: LogDir, title: str) -> bool:
    """Draws the mean return of the last 100 full episodes against environment frames, from the run's CSV files.

    With several tasks, each task gets its own axes, and one more pair shows the human-normalized scores over all tasks.

    Args:
      logdir: folder of the run; the picture is written to `logdir.curve`.
      title: title of the picture.

    Returns:
      False if no episode has ended yet; nothing is written then.
    """
    import matplotlib.figure  # Takes a second to import; only needed at the end of a run.

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
    """Draws one pair of axes per task and, last, the scores over all tasks."""
    names = list(dict.fromkeys(tasks["task"]))
    scored = "human_normalised_median" in run
    columns = min(8, max(2, math.ceil(math.sqrt(len(names) + scored))))
    rows = math.ceil((len(names) + scored) / columns)
    figure = figure_type(figsize=(3.4 * columns, 2.4 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for name, ax in zip(names, axes):
        task_rows = tasks[tasks["task"] == name]
        _curve(ax, task_rows, "return")
        score = task_rows["human_normalised"].iloc[-1]
        ax.set_title(name if math.isnan(score) else f"{name}, final: {score:.0%} of human", fontsize="medium")
    if scored:
        ax = axes[len(names)]
        for what in ("median", "mean", "mean_capped"):
            points = run[["frames", f"human_normalised_{what}"]].dropna()
            ax.plot(points["frames"] / 1e6, 100 * points[f"human_normalised_{what}"], label=what.replace("_", " "))
        ax.legend(fontsize="small")
        ax.set_title("human-normalized score, all tasks", fontsize="medium")
        ax.set_ylabel("%")
        ax.grid(alpha=0.3)
    for ax in axes[len(names) + scored :]:
        ax.remove()
    figure.supxlabel("environment frames of the whole run (millions)", fontsize="medium")
    return figure


def _curve(ax: Any, rows: Any, label: str) -> None:
    points = rows[["frames", "mean_return_100"]].dropna()  # NaN before the first episode ends.
    ax.plot(points["frames"] / 1e6, points["mean_return_100"], marker="." if len(points) < 20 else None)
    ax.set_ylabel(label)
    ax.grid(alpha=0.3)
    if "task" not in rows:
        ax.set_xlabel("environment frames (millions)")

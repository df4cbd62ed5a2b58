"""The learning curve of a run, as a picture in the run's folder."""

from __future__ import annotations

import math
from typing import Any

from impala_tf import suites
from impala_tf.files import replacing
from impala_tf.processes import imports
from impala_tf.records import csv_file
from impala_tf.records.logdir import LogDir


def draw(logdir: LogDir, title: str) -> bool:
    """Draws the mean return of the last 100 full episodes against environment frames, from the run's CSV files.

    With several tasks, each task gets its own axes, and one more pair shows the human-normalized scores over all tasks.
    The returns of a random player and of a human are lines, where a suite has them.

    Args:
      logdir: folder of the run; the picture is written to `logdir.curve`.
      title: title of the picture.

    Returns:
      False if no episode has ended yet; nothing is written then.

    Raises:
      UserError: a CSV file is damaged; names the line.
      OSError: the picture cannot be written; an earlier one is untouched.
    """
    run, tasks = csv_file.read(logdir.progress), csv_file.read(logdir.tasks)
    if run is None or run["mean_return_100"].isna().all():
        return False
    with imports.quickly():
        import matplotlib.figure  # Takes a second to import; only needed at the end of a run.

    if tasks is None:
        figure = matplotlib.figure.Figure(figsize=(7, 4), layout="constrained")
        env_id = logdir.read_settings()["env"] if logdir.config.exists() else ""
        _curve(figure.subplots(), run, "return, mean of the last 100 episodes", env_id)
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
        _curve(ax, task_rows, "return", name)
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


def _curve(ax: Any, rows: Any, label: str, env_id: str) -> None:
    points = rows[["frames", "mean_return_100"]].dropna()  # NaN before the first episode ends.
    ax.plot(points["frames"] / 1e6, points["mean_return_100"], marker="." if len(points) < 20 else None)
    ax.set_ylabel(label)
    ax.grid(alpha=0.3)
    if "task" not in rows:
        ax.set_xlabel("environment frames (millions)")
    if len(points) and (levels := suites.reference_scores(env_id)):
        draw_levels(ax, points["mean_return_100"], *levels)


def draw_levels(ax: Any, returns: Any, random: float, human: float) -> None:
    """Draws the levels of a random player and of a human as lines, or says where they are if they are far away.

    A line that would leave the curve less than a third of the height is not drawn.

    Args:
      ax: matplotlib axes with the curve; their limits are set.
      returns: an array of everything drawn there.
      random: return of a random player.
      human: return of a human.
    """
    low, high = float(returns.min()), float(returns.max())
    height = max(high - low, abs(human - random) / 200)  # The curve may be flat.
    far = []
    for name, level, color in (("random", random, "tab:gray"), ("human", human, "tab:green")):
        if max(high, level) - min(low, level) > 3 * height:
            far.append(f"{name} {level:,.6g} ({'above' if level > high else 'below'})")
            continue
        ax.axhline(level, color=color, linestyle="--", linewidth=1)
        text = {"color": color, "fontsize": "small", "transform": ax.get_yaxis_transform()}
        text["bbox"] = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5}
        ax.text(0.995, level, f"{name} {level:,.6g}", ha="right", va="bottom", **text)
        low, high = min(low, level), max(high, level)
    middle, half = (low + high) / 2, 0.6 * max(high - low, height)
    ax.set_ylim(middle - half, middle + half)
    if far:
        ax.text(0.01, 0.99, ", ".join(far), color="tab:gray", fontsize="small", va="top", transform=ax.transAxes)

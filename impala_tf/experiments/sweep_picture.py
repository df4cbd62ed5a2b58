"""Draws a sweep: the curves of its runs, and their final returns against each hyperparameter."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from impala_tf.experiments.sweep_runs import Combination
from impala_tf.files import replacing
from impala_tf.records import csv_file

_LABELED = 8


def draw(combinations: Sequence[Combination], picture: pathlib.Path) -> bool:
    """Draws the picture.

    Args:
      combinations: the runs.
      picture: file to write.

    Returns:
      False if no run has ended an episode yet; nothing is written then.

    Raises:
      OSError: the picture cannot be written.
    """
    import matplotlib
    import matplotlib.figure  # Takes a second.

    curves = [(each, csv_file.read(each.logdir.progress)) for each in combinations]
    drawn = [(each, rows) for each, rows in curves if rows is not None and rows["mean_return_100"].notna().any()]
    if not drawn:
        return False
    finals = [float(rows["mean_return_100"].dropna().iloc[-1]) for _, rows in drawn]
    # Colors by rank, the best last, so that it is on top.
    ranked = sorted(zip(finals, drawn), key=lambda pair: pair[0])
    colors = matplotlib.colormaps["viridis"]([i / max(1, len(ranked) - 1) for i in range(len(ranked))])
    names = list(drawn[0][0].values)
    figure = matplotlib.figure.Figure(figsize=(4.4 * (1 + len(names)), 4), layout="constrained")
    axes = figure.subplots(1, 1 + len(names), squeeze=False)[0]
    for (final, (each, rows)), color in zip(ranked, colors):
        points = rows[["frames", "mean_return_100"]].dropna()
        axes[0].plot(points["frames"] / 1e6, points["mean_return_100"], color=color, linewidth=1.2, label=_label(each))
        for ax, name in zip(axes[1:], names):
            ax.plot([each.values[name]], [final], "o", color=color)
    if len(drawn) <= _LABELED:
        axes[0].legend(title=f"combination: {', '.join(names)}", fontsize="small", title_fontsize="small")
    axes[0].set(xlabel="environment frames (millions)", ylabel="return, mean of the last 100 episodes")
    for ax, name in zip(axes[1:], names):
        ax.set(xlabel=name.replace("_", " "), ylabel="final return")
        numbers = [each.values[name] for each, _ in drawn]
        if all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in numbers):
            positive = [number for number in numbers if number > 0]
            if positive and len(positive) == len(numbers) and max(positive) >= 10 * min(positive):
                ax.set_xscale("log")
    for ax in axes:
        ax.grid(alpha=0.3)
    figure.suptitle(f"{len(drawn)} of {len(combinations)} combinations; the lighter, the higher the final return")
    with replacing(picture) as partial:
        figure.savefig(partial, dpi=110, format="png")
    return True


def _label(each: Combination) -> str:
    values = [f"{value:g}" if isinstance(value, float) else str(value) for value in each.values.values()]
    return f"{each.number}: {', '.join(values)}"

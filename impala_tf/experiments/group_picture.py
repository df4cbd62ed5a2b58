"""Draws groups of runs: a panel for each environment, a line for each group; and tells their final values in text."""

from __future__ import annotations

import math
import pathlib
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from impala_tf import suites
from impala_tf.errors import UserError
from impala_tf.experiments import report
from impala_tf.experiments.run_groups import FEWEST, FRAMES, Band, Group, band, half_width
from impala_tf.files import replacing
from impala_tf.records.curve import draw_levels

RETURN = "mean_return_100"

# Okabe and Ito's, which the color-blind can tell apart, without their yellow.
_COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#000000")
_ACROSS = 4
_CHARACTERS = 13  # Of the title and the legend, per inch.
_MANY = 8  # Labels for which the legend has columns, if they are long.
_LONG, _SHORT = 60, 44  # Characters in a line of the legend, and in one of its columns.
_THIN = 0.7
_NO_LABEL = "all"


def draw(groups: Sequence[Group], column: str, against: str) -> Any:
    """Draws the groups.

    Three or more runs are a mean with its 95% interval, two are a mean and two thin lines, and one is its own curve.
    Where only some runs of a group have got, they are thin lines.

    Args:
      groups: the groups, from `run_groups.read`.
      column: of progress.csv.
      against: one of `run_groups.AGAINST`.

    Returns:
      A matplotlib figure.
    """
    import matplotlib.figure  # Takes a second.
    import matplotlib.lines

    panels = list(dict.fromkeys(group.panel for group in groups))
    labels = list(dict.fromkeys(group.label for group in groups))
    colors = dict(zip(labels, _colors(len(labels))))
    across = min(len(panels), _ACROSS if len(panels) > 4 else 2)
    down = math.ceil(len(panels) / across)
    many = len(labels) > _MANY
    size = (9.0 if many else 7.0, 4.2) if len(panels) == 1 else (4.4 * across, 2.9 * down)
    entries = [
        textwrap.fill(_entry(label, groups), _SHORT if many else _LONG, break_on_hyphens=False) for label in labels
    ]
    longest = max(len(line) for entry in entries for line in entry.splitlines())
    columns = max(1, min(len(labels), int(size[0] * _CHARACTERS / (longest + 8))))
    below = 0.19 * math.ceil(sum(entry.count("\n") + 1 for entry in entries) / columns)
    figure = matplotlib.figure.Figure(figsize=(size[0], size[1] + below + 0.4), layout="constrained", dpi=130)
    axes = figure.subplots(down, across, squeeze=False)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    for panel, ax in zip(panels, axes.flat):
        own = [group for group in groups if group.panel == panel]
        _draw_panel(ax, own, column, against, colors)
        ax.set_title(panel, fontsize="medium")
    for row in axes:
        row[0].set_ylabel("return, mean of the last 100 episodes" if column == RETURN else column.replace("_", " "))
    handles = [
        matplotlib.lines.Line2D([], [], color=colors[label], label=entry) for label, entry in zip(labels, entries)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize="small")
    thin = any(line.get_linewidth() == _THIN for ax in axes.flat for line in ax.lines)
    if about := _about(groups, thin):
        figure.suptitle(about, fontsize="small", color="#555555")
    return figure


def _colors(count: int) -> list[Any]:
    if count <= len(_COLORS):
        return list(_COLORS[:count])
    import matplotlib

    return list(matplotlib.colormaps["turbo"](np.linspace(0.05, 0.95, count)))


def _entry(label: str, groups: Sequence[Group]) -> str:
    """A label with the number of runs, or their range over the panels."""
    if all(len(group.curves) == 1 for group in groups):
        return label or _NO_LABEL
    counts = sorted({len(group.curves) for group in groups if group.label == label})
    number = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{label or _NO_LABEL} ({number} run{'s' * (counts[-1] > 1)})"


def _about(groups: Sequence[Group], thin: bool) -> str:
    most = max(len(group.curves) for group in groups)
    if most == 1:
        return ""
    return "mean over the runs" + " and its 95% interval" * (most >= FEWEST) + "; thin lines: single runs" * thin


def _draw_panel(ax: Any, groups: Sequence[Group], column: str, against: str, colors: dict[str, Any]) -> None:
    furthest = max(curve.x[-1] for group in groups for curve in group.curves)
    if against == FRAMES:
        unit, name = (1e6, "millions") if furthest >= 1e6 else (1e3, "thousands")
        name = f"environment frames ({name})"
    else:
        unit, name = (1, "hours of training") if furthest >= 1 else (1 / 60, "minutes of training")
    for group in groups:
        _draw_group(ax, group, band(group.curves), unit, colors[group.label])
    ax.set_xlabel(name)
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    if column == RETURN and (levels := suites.reference_scores(groups[0].panel)):
        draw_levels(ax, np.array(ax.dataLim.intervaly), *levels)


def _draw_group(ax: Any, group: Group, mean: Band | None, unit: float, color: Any) -> None:
    thin = {"color": color, "linewidth": _THIN, "alpha": 0.6}
    single = mean is None or (mean.half is None and len(group.curves) > 1)
    for curve in group.curves:
        start = -np.inf if single or mean is None else mean.x[-1]
        beyond = curve.x > start
        x, y = curve.x[beyond], curve.y[beyond]
        if not len(x):
            continue
        if np.isfinite(start):
            x, y = np.append(start, x), np.append(np.interp(start, curve.x, curve.y), y)
        ax.plot(x / unit, y, marker="." if len(curve.x) == 1 else None, **thin)
    if mean is None:
        return
    ax.plot(mean.x / unit, mean.mean, color=color, linewidth=1.8, marker="." if len(mean.x) == 1 else None)
    if mean.half is not None:
        low, high = mean.mean - mean.half, mean.mean + mean.half
        ax.fill_between(mean.x / unit, low, high, color=color, alpha=0.18, linewidth=0)


def check(output: pathlib.Path) -> None:
    """Raises UserError if the picture's format cannot be told from its file's suffix."""
    import matplotlib.backend_bases

    known = matplotlib.backend_bases.FigureCanvasBase.get_supported_filetypes()
    if output.suffix[1:].lower() not in known.keys() - {"pgf"}:  # That needs LaTeX.
        raise UserError(f"--output={output} must end with a format such as .png, .svg or .pdf.")


def save(figure: Any, output: pathlib.Path) -> None:
    """Writes a picture in the format of its file's suffix.

    Raises:
      UserError: it cannot be written.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with replacing(output) as partial:
            figure.savefig(partial, format=output.suffix[1:].lower())
    except OSError as error:
        raise UserError(f"--output={output} cannot be written: {error.strerror}.") from None


def table(groups: Sequence[Group], column: str) -> str:
    """Returns a line for each group: its runs, how far they are, and their final values."""
    several = len({group.panel for group in groups}) > 1
    head = ["", *["environment"] * several, "runs", "frames", f"final {column}", "95% interval", "range"]
    lines = [head]
    for group in groups:
        finals, frames = group.finals, [curve.frames for curve in group.curves]
        interval = "-"
        if len(finals) >= FEWEST:
            half = float(half_width(finals))
            interval = _range(finals.mean() - half, finals.mean() + half)
        reached = f"{min(frames):,}" if min(frames) == max(frames) else f"{min(frames):,} to {max(frames):,}"
        known = [str(len(finals)), reached, _number(finals.mean()), interval]
        spread = _range(finals.min(), finals.max()) if len(finals) > 1 else "-"
        lines.append([group.label or _NO_LABEL, *[group.panel] * several, *known, spread])
    return report.aligned(lines)


def _range(low: float, high: float) -> str:
    return f"{_number(low)} to {_number(high)}"


def _number(value: float) -> str:
    size = abs(value)
    if size >= 0.1 or value == 0:
        return f"{value:,.{0 if size >= 1000 else 1 if size >= 100 else 2}f}"
    return f"{value:.2g}"

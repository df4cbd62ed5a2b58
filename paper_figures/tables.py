"""Draws tables as figures, and reads what goes into them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.textpath import TextPath
from plotting import BLUE, GRAY


def draw(
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[Any] | str],
    note: str = "",
    own_columns: int = 0,
) -> Any:
    """Draws a table.

    Args:
      title: one or more lines above the table.
      header: column names; the first column is left-aligned, the others right-aligned.
      rows: the cells of each row. Numbers keep their decimals and None becomes a dash. A string instead of a row is a
        heading between rows.
      note: text below the table.
      own_columns: number of columns, counted from the right, that are not from the paper; they are drawn in blue.
    """
    size, line, gap = 8.5, 0.205, 0.22  # points, inches, inches
    cells = [[_text(cell) for cell in row] for row in rows if not isinstance(row, str)]
    columns = [[part for cell in column for part in cell.split("\n")] for column in zip(header, *cells)]
    widths = [_inches(max(parts, key=len), size) + gap for parts in columns]
    above, below = line * (title.count("\n") + 2.2), line * (note.count("\n") + 2.2 if note else 0.4)
    top = line * (1.3 + max(name.count("\n") for name in header))
    outside = [*title.split("\n"), *note.split("\n"), *(row for row in rows if isinstance(row, str))]
    width = max(sum(widths), *(_inches(text, size) * 1.1 + gap for text in outside))
    height = above + top + line * len(rows) + below
    figure = plt.figure(figsize=(width, height), layout="none")
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(height, 0))
    ax.axis("off")
    ax.text(gap / 2, line * 0.6, title, va="top", fontsize=size + 1, fontweight="bold", linespacing=1.35)
    ax.text(gap / 2, height - below + line * 0.7, note, va="top", fontsize=size - 0.5, color="#444444", linespacing=1.4)

    right = np.cumsum(widths) * width / sum(widths) - gap / 2
    texts = iter(cells)
    for y, row in enumerate([header, *rows]):
        at = above + (line * (y - 0.5) + top if y else top / 2)
        if isinstance(row, str):
            ax.text(gap / 2, at, row, va="center", fontsize=size, fontstyle="italic", color="#444444")
            ax.axhline(at - line / 2, color=GRAY, linewidth=0.5)
            continue
        for i, text in enumerate(next(texts) if y else header):
            own = i >= len(header) - own_columns
            style = {"fontsize": size, "va": "center", "color": BLUE if own else "black"}
            ax.text(right[i] if i else gap / 2, at, text, ha="right" if i else "left", **style)
    for y, weight in ((above, 1.2), (above + top, 0.7), (height - below, 1.2)):
        ax.axhline(y, color="black", linewidth=weight)
    return figure


def throughput(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields what `impala-benchmark` measured, and the frames per second with their range or interval.

    Args:
      result: the JSON file that it wrote, with or without --table.
    """
    layout = f"{result['num_actors']} actors x {result['envs_per_actor']} environments"
    for name, row in result.get("rows", {}).items():
        yield f"{name}, {layout}", "{mean:,.0f} ({low:,.0f} to {high:,.0f})".format(**row["frames_per_second"])
    if "results" in result:
        fps = {name: f"{value:,.0f}" for name, value in result["results"]["whole_frames_per_second"].items()}
        how = ["LSTM"] * (result["core"] == "lstm") + ["dyn. batch"] * (result["inference"] == "central")
        within = f" ({fps['min']} to {fps['max']})" * (fps["min"] != fps["max"])
        yield ", ".join([f"IMPALA, {layout}", *how, result["precision"]]), fps["median"] + within


def _text(cell: Any) -> str:
    return "-" if cell is None else f"{cell:,}" if isinstance(cell, int | float) else cell


def _inches(text: str, size: float) -> float:
    """Returns the width in inches of a line of text whose size is given in points."""
    return TextPath((0, 0), text, size=size).vertices[:, 0].max() / 72 if text else 0.0

"""The learning curve that a run leaves in its folder."""

from __future__ import annotations

import csv
import pathlib


def draw(progress: pathlib.Path, output: pathlib.Path, title: str) -> bool:
    """Draws the mean return of the last 100 full episodes against environment frames.

    Args:
      progress: a run's progress.csv.
      output: PNG to write.
      title: of the picture.

    Returns:
      False, and nothing is written, if no episode had ended yet.
    """
    import matplotlib.figure  # Takes a second; only needed at the end of a run.

    if not progress.exists():
        return False
    with open(progress, newline="") as file:
        points = [(int(row["frames"]) / 1e6, float(row["mean_return_100"])) for row in csv.DictReader(file)]
    points = [(frames, mean) for frames, mean in points if mean == mean]  # NaN before the first episode's end.
    if not points:
        return False
    figure = matplotlib.figure.Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*points), marker="." if len(points) < 20 else None)
    axes.set_xlabel("environment frames (millions)")
    axes.set_ylabel("return, mean of the last 100 episodes")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    figure.savefig(output, dpi=120)
    return True

"""Where figures go."""

from __future__ import annotations

import pathlib
from typing import Any

import matplotlib

HERE = pathlib.Path(__file__).parent
FIGURES = HERE / "figures"

matplotlib.rcParams["svg.hashsalt"] = "impala_tf"  # The ids in an SVG file are random without one.


def save(figure: Any, name: str) -> None:
    """Writes <name>.png and <name>.svg into `FIGURES`, the same bytes every time."""
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / f"{name}.png", dpi=110)
    figure.savefig(FIGURES / f"{name}.svg", metadata={"Date": None})

"""Draws population.csv: Figure 5's reconstructed learning curve, Figure F.1's schedules, and the lineage."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from impala_tf.files import replacing

# pandas takes a second to import, and mistakes in flags are to be found before.

_BEST = "#b2182b"
_OTHERS = "#8a8a8a"


def ancestry(rows: Any, member: int | None = None) -> Any:
    """Returns the evaluations of which a member is the outcome, oldest first: the paper's way to draw Figure 5.

    It begins at the member's last evaluation and goes backwards; where the member copied another, it goes on with that
    one. Evaluations whose weights were given up for others' are not among them.

    Args:
      rows: population.csv as a pandas.DataFrame.
      member: number of the member; None: the one whose last fitness is the highest.
    """
    import pandas as pd

    rows = _scored(rows)
    last = rows.groupby("member").tail(1).set_index("member")["fitness"]
    member = int(last.idxmax()) if member is None else member
    by_key = rows.reset_index(drop=True).set_index(["member", "evaluation"], drop=False)
    at, found = (member, int(rows.loc[rows["member"] == member, "evaluation"].max())), []
    while at in by_key.index:
        found.append(by_key.loc[at])
        before = (at[0], at[1] - 1)
        if before not in by_key.index:
            break
        copied = by_key.loc[before, ["copied_from", "copied_evaluation"]]
        at = (
            before if pd.isna(copied["copied_from"]) else (int(copied["copied_from"]), int(copied["copied_evaluation"]))
        )
    return pd.DataFrame(found[::-1]).reset_index(drop=True)


def draw(csv: pathlib.Path, picture: pathlib.Path, names: Sequence[str], fitness: str, members: int) -> None:
    """Draws fitness and each setting against frames, for all members and, in color, for the ancestry of the best one.

    Args:
      csv: population.csv.
      picture: file to write.
      names: settings under adaptation.
      fitness: what the fitness is.
      members: how many there are; some may have no evaluation yet.

    Raises:
      OSError: the picture cannot be written.
    """
    import matplotlib.figure
    import pandas as pd

    rows = pd.read_csv(csv)
    figure = matplotlib.figure.Figure(figsize=(4.6 * (1 + len(names)), 4), layout="constrained")
    axes = figure.subplots(1, 1 + len(names))
    draw_column(axes[0], rows, "fitness")
    axes[0].set_ylabel(fitness)
    for ax, name in zip(axes[1:], names):
        draw_column(ax, rows, name)
        ax.set_ylabel(name.replace("_", " "))
        if (rows[name] > 0).all():
            ax.set_yscale("log")
    axes[0].legend(fontsize="small")
    copies = rows["copied_from"].notna().sum()
    figure.suptitle(f"{members} members; evaluations: {len(rows)}, copies: {copies}")
    with replacing(picture) as partial:
        figure.savefig(partial, dpi=110, format="png")


def draw_column(ax: Any, rows: Any, column: str, color: str = _BEST, scale: float = 1e6) -> None:
    """Draws a column of population.csv against frames.

    Thin lines are the members' own evaluations, broken where they copied another; dotted ones lead to a copy from what
    was copied; the thick one is the ancestry of the best member. Settings are drawn as steps: each value
    over the frames that were trained with it, up to its evaluation.

    Args:
      ax: axes to draw on.
      rows: population.csv.
      column: "fitness" or a setting.
      color: of the ancestry.
      scale: frames per unit of the x axis.
    """
    rows = _scored(rows)
    by_key = rows.set_index(["member", "evaluation"])
    style = "default" if column == "fitness" else "steps-pre"
    for member, own in rows.groupby("member"):
        pieces = own["copied_from"].notna().shift(fill_value=False).cumsum()
        for _, piece in own.groupby(pieces):
            line = {"color": _OTHERS, "linewidth": 0.8, "alpha": 0.7, "markersize": 3}
            ax.plot(piece["frames"] / scale, piece[column], marker=_marker(piece), drawstyle=style, **line)
        for row in own[own["copied_from"].notna()].itertuples():
            source, after = (row.copied_from, row.copied_evaluation), (member, row.evaluation + 1)
            if source in by_key.index and after in by_key.index:
                ends = by_key.loc[[source, after]]
                ax.plot(ends["frames"] / scale, ends[column], color=_OTHERS, linewidth=0.8, linestyle=":")
    best = ancestry(rows)
    line = {"color": color, "linewidth": 2, "label": "ancestry of the best member"}
    ax.plot(best["frames"] / scale, best[column], marker=_marker(best), drawstyle=style, **line)
    ax.set_xlabel("environment frames" + (" (millions)" if scale == 1e6 else ""))
    ax.grid(alpha=0.3)


def _scored(rows: Any) -> Any:
    """The rows with NaN as the fitness of members that could not train."""
    return rows.assign(fitness=rows["fitness"].where(rows["fitness"] > float("-inf")))


def _marker(rows: Any) -> str:
    """A line through a single evaluation could not be seen."""
    return "o" if len(rows) == 1 else ""

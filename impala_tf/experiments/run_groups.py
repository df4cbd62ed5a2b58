"""Finds runs in folders and puts those that differ only in their seeds together, for a picture of all of them."""

from __future__ import annotations

import dataclasses
import difflib
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from impala_tf.errors import UserError
from impala_tf.records import csv_file, differences
from impala_tf.records.logdir import LogDir

FRAMES, HOURS = AGAINST = ("frames", "hours")
FEWEST = 3
"""Runs of which an interval is drawn: that of two would be 13 times as wide as their distance."""

_POINTS = 200
_SHORT = 8  # Characters of a number that is shown as it is.
_DIGITS = (3, 6, 17)  # Of longer ones: as many as tell all groups apart.
_NORMAL = 1.959964
_STUDENT = {2: 4.3027, 3: 3.1824, 4: 2.7764, 5: 2.5706, 6: 2.4469, 7: 2.3646, 8: 2.3060, 9: 2.2622}


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that was found.

    Attributes:
      logdir: its folder.
      name: what the user calls the runs that it is one of; "" without --label.
      settings: those in which runs can be compared.
    """

    logdir: LogDir
    name: str
    settings: dict[str, Any]


class Curve(NamedTuple):
    """A column of one run's log, where it has a value: against frames or hours."""

    x: np.ndarray
    y: np.ndarray
    frames: int


class Band(NamedTuple):
    """The mean of several curves as far as all of them reach, and the half width of its 95% interval at each point.

    The interval is Student's t for the mean over runs, at each point alone; None for fewer than `FEWEST` curves.
    """

    x: np.ndarray
    mean: np.ndarray
    half: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs of one environment that differ only in their seeds.

    Attributes:
      panel: environment id.
      label: the settings in which this group differs from others, after the user's name for it; may be empty.
      curves: of its runs.
    """

    panel: str
    label: str
    curves: list[Curve]

    @property
    def finals(self) -> np.ndarray:
        """The last value of each run."""
        return np.array([curve.y[-1] for curve in self.curves])


def find(paths: Sequence[str], names: Sequence[str] = ()) -> list[Run]:
    """Finds the runs in folders, at any depth; each run once.

    Args:
      paths: folders of runs, or folders that contain some.
      names: of what is found in each path; empty: none.

    Raises:
      UserError: a folder does not exist or has no run, there is not a name for each, or a config.json is damaged.
    """
    if names and len(names) != len(paths):
        raise UserError(f"--label has {len(names)} names for {len(paths)} RUN arguments: give one for each.")
    found: dict[pathlib.Path, Run] = {}
    for path, name in zip(paths, names or [""] * len(paths)):
        folders = list(_folders(path))
        if not folders:
            what = "has no run in it or below it: no progress.csv" if os.path.isdir(path) else "is no folder"
            raise UserError(f"{path} {what}. Name a run's --logdir, or a folder that contains runs.")
        for folder in folders:
            logdir = LogDir(folder)
            settings = differences.compared(logdir.read_settings())
            found.setdefault(pathlib.Path(folder).resolve(), Run(logdir, name, settings))
    return list(found.values())


def _folders(path: str) -> Iterator[str]:
    for folder, below, files in os.walk(path):
        if "progress.csv" in files:
            yield folder
            below.clear()  # What was set aside for this run is none of its own.
        below.sort()


def read(runs: Sequence[Run], column: str, against: str = FRAMES) -> tuple[list[Group], list[Run]]:
    """Reads the runs' logs.

    A run of several tasks has a curve for each of them if tasks.csv has the column, and otherwise one for all.

    Args:
      runs: the runs.
      column: of progress.csv.
      against: one of `AGAINST`.

    Returns:
      The groups, by name and by the settings in which they differ; and the runs without a value in the column.

    Raises:
      UserError: no run has such a column; or a file is damaged.
    """
    curves: dict[tuple[str, str, tuple], list[Curve]] = {}
    without, columns = [], set()
    for run in runs:
        rows, tasks = csv_file.read(run.logdir.progress), csv_file.read(run.logdir.tasks)
        columns |= set() if rows is None else set(rows)
        own = [(task, c) for task, c in _curves(run, rows, tasks, column, against) if len(c.y)]
        for task, curve in own:
            key = tuple((name, _plain(value)) for name, value in run.settings.items() if name != "seed")
            curves.setdefault((run.name, task, key), []).append(curve)
        without += [] if own else [run]
    if columns and column not in columns:
        near = difflib.get_close_matches(column, columns, n=1)
        meant = f" Did you mean {near[0]}?" if near else ""
        raise UserError(f"No run has a column {column!r}.{meant} There are: {', '.join(sorted(columns))}.")
    return _labeled(curves), without


def _curves(run: Run, rows: Any, tasks: Any, column: str, against: str) -> Iterator[tuple[str, Curve]]:
    if rows is None:
        return
    if against == HOURS and "seconds" not in rows:
        raise UserError(f"{run.logdir.progress} has no column 'seconds', which --against=hours needs.")
    parts = {run.settings["env"]: rows}
    if tasks is not None and column in tasks:
        parts = dict(list(tasks.groupby("task", sort=False)))
    for task, part in parts.items():
        if column not in part:
            continue
        part = part[np.isfinite(part[column])]  # There is no return before the first episode has ended.
        x = part["frames"].to_numpy(float)
        if against == HOURS:
            x = np.interp(x, rows["frames"], rows["seconds"] / 3600)
        yield task, Curve(x, part[column].to_numpy(float), int(part["frames"].max()) if len(part) else 0)


def _plain(value: Any) -> Any:
    """Something that can be compared; settings of other versions may be anything that JSON has."""
    return value if isinstance(value, (str, int, float)) else str(value)


def _labeled(curves: dict[tuple[str, str, tuple], list[Curve]]) -> list[Group]:
    """Labels the groups by the settings in which those of the same name differ, in any environment, and sorts them."""
    names = list(dict.fromkeys(name for name, _, _ in curves))
    panels = list(dict.fromkeys(panel for _, panel, _ in curves))
    differing: dict[str, list[str]] = {}
    for name in names:
        per_panel = [[dict(key) for n, p, key in curves if (n, p) == (name, panel)] for panel in panels]
        settings = dict.fromkeys(setting for keys in per_panel for key in keys for setting in key)
        differing[name] = [s for s in settings if any(len({key.get(s) for key in keys}) > 1 for keys in per_panel)]

    def order(item: tuple[str, str, tuple]) -> tuple:
        name, panel, key = item
        values = [dict(key).get(setting) for setting in differing[name]]
        return panels.index(panel), names.index(name), [_sortable(value) for value in values]

    for digits in _DIGITS:
        groups = []
        for name, panel, key in sorted(curves, key=order):
            values = [f"{setting}={_shown(dict(key).get(setting), digits)}" for setting in differing[name]]
            label = ", ".join(part for part in (name, *values) if part)
            groups.append(Group(panel, label, curves[name, panel, key]))
        if len({(group.panel, group.label) for group in groups}) == len(groups):
            break
    return groups


def _sortable(value: Any) -> tuple:
    return (0, value, "") if isinstance(value, (int, float)) else (1, 0, str(value))


def _shown(value: Any, digits: int) -> str:
    """A value as it could be given as a flag; digits of longer numbers, such as samples, are left out."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.{digits}g}" if isinstance(value, float) and len(str(value)) > _SHORT else str(value)


def band(curves: Sequence[Curve]) -> Band | None:
    """Returns the mean of curves; None if there is no point that all of them reach."""
    if len(curves) == 1:
        return Band(curves[0].x, curves[0].y, None)
    start, end = max(curve.x[0] for curve in curves), min(curve.x[-1] for curve in curves)
    if start > end:
        return None
    x = np.linspace(start, end, _POINTS)
    values = np.array([np.interp(x, curve.x, curve.y) for curve in curves])
    return Band(x, values.mean(0), half_width(values) if len(curves) >= FEWEST else None)


def half_width(values: np.ndarray) -> np.ndarray:
    """Returns half the width of Student's 95% interval of the mean over the first axis, of at least `FEWEST` values."""
    count = len(values)
    return _student(count - 1) * values.std(0, ddof=1) / np.sqrt(count)


def _student(freedom: int) -> float:
    """The 97.5% quantile of Student's t distribution, exact to 0.001."""
    z = _NORMAL
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return _STUDENT.get(freedom, z + first / freedom + second / freedom**2 + third / freedom**3)

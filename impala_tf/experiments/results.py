"""What the runs of an experiment have reached: their curves in one table, their scores, and what becomes of the claims.

The score of a run is 0 for the mean return of a random policy on its task, and 1 for the best final return of all runs
of the experiment on that task. Aggregates are interquartile means (Agarwal et al., 2021), or means of the best 3 runs
as in Table 2; their 95% intervals are from a bootstrap over the runs of each task. Where the repeats are combinations
of hyperparameters, which differ far more than two agents with the same combination, two agents are compared over pairs.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from impala_tf.errors import UserError
from impala_tf.experiments.catalogue.grid import Claim, Experiment, Grid, Planned
from impala_tf.files import replacing
from impala_tf.records import csv_file

COLUMNS = ["agent", "task", "repeat", "frames", "mean_return_100"]
CONFIRMED, CONTRADICTED, UNDECIDED = "confirmed", "contradicted", "undecided"

_ROWS_PER_RUN = 30
_FEWEST = 5  # Runs of an agent that a claim is judged from.
_RESAMPLES = 2000
_SEED = 1


def collect(grid: Grid, root: pathlib.Path) -> pd.DataFrame:
    """Reads the curves of the runs that have all their frames.

    Args:
      grid: the runs.
      root: folder of the scale, with the agents' folders.

    Returns:
      A table with `COLUMNS`: environment frames, and the mean return of the last 100 episodes. At most 30 rows for each
      run and task, the last of its log among them.
    """
    tables = []
    for run in grid.runs():
        folder = root / run.folder
        whole = csv_file.read(folder / "progress.csv")
        if whole is None or not len(whole) or whole["frames"].iloc[-1] < run.settings["total_frames"]:
            continue
        for task, rows in _by_task(run, folder, whole):
            rows = rows[["frames", "mean_return_100"]].dropna()
            if not len(rows):  # No episode has ended.
                continue
            kept = np.unique(np.linspace(0, len(rows) - 1, _ROWS_PER_RUN).round().astype(int))
            own = {"agent": run.agent.folder, "task": task, "repeat": run.repeat}
            tables.append(rows.iloc[kept].assign(**own)[COLUMNS])
    return pd.concat(tables, ignore_index=True).round(4) if tables else pd.DataFrame(columns=COLUMNS)


def _by_task(run: Planned, folder: pathlib.Path, whole: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yields each task's name and rows; frames are those of all tasks of the run, as in tasks.csv."""
    if not run.agent.together:
        yield run.tasks[0].name, whole
        return
    rows = csv_file.read(folder / "tasks.csv")
    for task in run.tasks:
        if rows is not None:
            yield task.name, rows[rows["task"] == task.settings["env"]]


def write(table: pd.DataFrame, file: pathlib.Path) -> None:
    """Writes a table of `collect`.

    Raises:
      UserError: the file cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as partial:
            table.to_csv(partial, index=False)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}.") from None


def read(file: pathlib.Path) -> pd.DataFrame:
    """Reads a table that `write` has written."""
    return pd.read_csv(file, dtype={"agent": str, "task": str, "repeat": str})


def finals(table: pd.DataFrame, agent: str) -> pd.DataFrame:
    """Returns the final returns of an agent's runs: a row for each repeat, a column for each task."""
    own = table[table["agent"] == agent]
    return own.groupby(["repeat", "task"])["mean_return_100"].last().unstack()


def scores(table: pd.DataFrame, agent: str, grid: Grid) -> pd.DataFrame:
    """Returns the scores of an agent's runs: a row for each repeat that has all tasks, a column for each task.

    There are none where no run of the experiment is better than a random policy: nothing has been learned then.
    """
    best = table.groupby(["task", "agent", "repeat"])["mean_return_100"].last().groupby("task").max()
    random = pd.Series({task.name: task.random for task in grid.tasks}, dtype=float)
    span = best.reindex(random.index) - random
    returns = finals(table, agent).reindex(columns=random.index).astype(float).dropna()
    return (returns - random) / span if (span > 0).all() else returns.iloc[:0]


class Estimate(NamedTuple):
    """A value with its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def estimate(scores: pd.DataFrame | np.ndarray, best: int = 0) -> Estimate:
    """Aggregates an agent's scores.

    Args:
      scores: [repeats, tasks].
      best: number of runs of each task that count, the best ones; 0: the interquartile mean of all runs.
    """
    return _interval([np.asarray(scores)], lambda its: _aggregate(its, best))


def difference(
    higher: pd.DataFrame | np.ndarray, lower: pd.DataFrame | np.ndarray, best: int = 0, paired: bool = False
) -> Estimate:
    """Returns by how much one agent's aggregate is above another's.

    Args:
      higher: [repeats, tasks], the scores of the first agent.
      lower: the same for the second.
      best: as in `estimate`.
      paired: whether the rows of both belong together, so that pairs of runs are resampled.
    """
    samples = [np.asarray(higher), np.asarray(lower)]
    return _interval(samples, lambda a, b: _aggregate(a, best) - _aggregate(b, best), paired)


class Verdict(NamedTuple):
    """What became of a claim.

    Attributes:
      claim: the claim.
      word: confirmed, if the 95% interval of the difference is above 0; contradicted, if it is below; or undecided.
      difference: of the two agents' aggregates; None without enough runs.
      runs: how many runs of each task the agents have, at least.
    """

    claim: Claim
    word: str
    difference: Estimate | None
    runs: int

    def __str__(self) -> str:
        by = f": difference of scores {self.difference}" if self.difference else ": not enough runs"
        return f"{self.word}{by}"


def judge(experiment: Experiment, scale: str, table: pd.DataFrame) -> list[Verdict]:
    """Compares the claims of an experiment with its runs."""
    return [_judge(claim, experiment.grids[scale], table) for claim in experiment.claims]


def _judge(claim: Claim, grid: Grid, table: pd.DataFrame) -> Verdict:
    higher, lower = (scores(table, agent, grid) for agent in (claim.higher, claim.lower))
    if grid.sweep:
        both = higher.index.intersection(lower.index)
        higher, lower = higher.loc[both], lower.loc[both]
    runs = min(len(higher), len(lower))
    if runs < _FEWEST:
        return Verdict(claim, UNDECIDED, None, runs)
    found = difference(higher, lower, claim.best, paired=grid.sweep)
    return Verdict(claim, CONFIRMED if found.low > 0 else CONTRADICTED if found.high < 0 else UNDECIDED, found, runs)


def _aggregate(scores: np.ndarray, best: int) -> np.ndarray:
    """Aggregates scores [..., repeats, tasks] over the last two axes."""
    if best:
        return np.sort(scores, axis=-2)[..., -best:, :].mean(axis=(-2, -1))
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    quarter = flat.shape[-1] // 4
    return flat[..., quarter : flat.shape[-1] - quarter].mean(axis=-1)


def _interval(samples: list[np.ndarray], function: Callable[..., np.ndarray], paired: bool = False) -> Estimate:
    """Percentile interval of a function of scores, by resampling the runs of each agent on each task."""
    generator = np.random.default_rng(_SEED)
    resampled: list[np.ndarray] = []
    for scores in samples:
        if not resampled or not paired:
            rows = generator.integers(len(scores), size=(_RESAMPLES, *scores.shape))
        resampled.append(np.take_along_axis(scores[None], rows, axis=1))
    low, high = np.percentile(function(*resampled), (2.5, 97.5))
    return Estimate(float(function(*samples)), float(low), float(high))

"""What the runs of an experiment have reached: their curves in one table, and statistics of their final returns."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from impala_tf.errors import UserError
from impala_tf.experiments.catalogue.grid import Claim, Experiment, Grid
from impala_tf.files import replacing
from impala_tf.records import csv_file

COLUMNS = ["agent", "task", "repeat", "frames", "mean_return_100"]
_ROWS_PER_RUN = 30
_REPETITIONS = 2000  # Of the bootstrap.
_SEED = 1

CONFIRMED, CONTRADICTED, UNDECIDED = "confirmed", "not confirmed", "undecided"


def collect(grid: Grid, root: pathlib.Path) -> pd.DataFrame:
    """Reads the curves of the runs that have all their frames.

    Args:
      grid: the runs.
      root: folder of the scale, with the agents' folders.

    Returns:
      A table with `COLUMNS`, at most 30 rows for each run, the last of its log among them.
    """
    tables = []
    for run in grid.runs():
        rows = csv_file.read(root / run.folder / "progress.csv")
        if rows is None:
            continue
        rows = rows[["frames", "mean_return_100"]].dropna()
        if not len(rows) or rows["frames"].iloc[-1] < run.settings["total_frames"]:
            continue
        kept = np.unique(np.linspace(0, len(rows) - 1, _ROWS_PER_RUN).round().astype(int))
        own = {"agent": run.agent.folder, "task": run.task.name, "repeat": run.repeat}
        tables.append(rows.iloc[kept].assign(**own)[COLUMNS])
    return pd.concat(tables, ignore_index=True).round(4) if tables else pd.DataFrame(columns=COLUMNS)


def write(table: pd.DataFrame, file: pathlib.Path) -> None:
    """Writes a table of `collect`.

    Raises:
      UserError: the file cannot be written.
    """
    try:
        with replacing(file) as partial:
            table.to_csv(partial, index=False)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}.") from None


def finals(table: pd.DataFrame, agent: str, tasks: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns {task: final returns of the agent's runs, in the order of the repeats}."""
    own = table[table["agent"] == agent]
    return {task: own[own["task"] == task].groupby("repeat")["mean_return_100"].last().to_numpy() for task in tasks}


class Scale(NamedTuple):
    """Turns returns on a task into scores: 0 for `low`, 1 for `high`."""

    low: float
    high: float

    def __call__(self, returns: np.ndarray) -> np.ndarray:
        return (returns - self.low) / (self.high - self.low)


def scales(table: pd.DataFrame, random: Mapping[str, float]) -> dict[str, Scale]:
    """Returns {task: scale}, from the return of a random policy to that of the best run in the table."""
    best = table.groupby(["task", "agent", "repeat"])["mean_return_100"].last().groupby("task").max()
    return {str(task): Scale(random[str(task)], float(high)) for task, high in best.items()}


def interquartile_mean(scores: np.ndarray) -> float:
    """Mean of the middle half of the scores [N, tasks] (Agarwal et al., 2021)."""
    from rliable import metrics

    return float(metrics.aggregate_iqm(scores))


def best_mean(scores: np.ndarray, best: int) -> float:
    """Mean over tasks of the mean of the best scores [N, tasks], as in Table 2."""
    return float(np.sort(scores, axis=0)[-best:].mean())


class Estimate(NamedTuple):
    """A value with its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def estimate(scores: np.ndarray, best: int = 0) -> Estimate:
    """Estimates the interquartile mean of an agent's scores, or the mean of the best.

    Args:
      scores: [N, tasks]; a row is a repeat.
      best: how many runs of each task count; 0: the interquartile mean of all.

    Returns:
      The estimate; its interval is of a bootstrap over the runs of each task (rliable).
    """
    return _interval([scores], lambda its: _aggregate(its, best))


def difference(higher: np.ndarray, lower: np.ndarray, best: int = 0) -> Estimate:
    """Estimates by how much one agent scores more than another; as `estimate`."""
    return _interval([higher, lower], lambda a, b: _aggregate(a, best) - _aggregate(b, best))


def _aggregate(scores: np.ndarray, best: int) -> float:
    return best_mean(scores, best) if best else interquartile_mean(scores)


def _interval(scores: list[np.ndarray], function: Any) -> Estimate:
    from rliable import library

    estimates, intervals = library.get_interval_estimates(
        {"": scores},
        lambda *its: np.array([function(*its)]),
        reps=_REPETITIONS,
        random_state=np.random.RandomState(_SEED),
    )
    return Estimate(float(estimates[""][0]), *map(float, intervals[""][:, 0]))


class Verdict(NamedTuple):
    """What became of a claim.

    Attributes:
      claim: it.
      verdict: one of the words above: confirmed if the whole 95% interval of the difference is above 0, not confirmed
        if it is below, otherwise undecided.
      difference: of the scores; None without runs of both agents.
      runs: runs of each of the two agents and each task.
    """

    claim: Claim
    verdict: str
    difference: Estimate | None
    runs: int


def judge(experiment: Experiment, scale: str, table: pd.DataFrame, random: Mapping[str, float]) -> list[Verdict]:
    """Tests the claims of an experiment.

    Args:
      experiment: the experiment.
      scale: of the runs.
      table: of `collect`.
      random: {task: mean return of a random policy}.
    """
    return [_judge(claim, experiment.grids[scale], table, scales(table, random)) for claim in experiment.claims]


def scores(table: pd.DataFrame, agent: str, to_score: Mapping[str, Scale]) -> np.ndarray:
    """Returns an agent's scores [N, tasks], for the repeats that have been trained on all tasks."""
    own = table[table["agent"] == agent].groupby(["repeat", "task"])["mean_return_100"].last().unstack()
    if not set(to_score) <= set(own.columns):
        return np.empty((0, len(to_score)))
    complete = own[list(to_score)].dropna()
    return np.stack([to_score[task](complete[task].to_numpy()) for task in to_score], axis=1)


def _judge(claim: Claim, grid: Grid, table: pd.DataFrame, to_score: Mapping[str, Scale]) -> Verdict:
    if set(to_score) != {task.name for task in grid.tasks}:
        return Verdict(claim, UNDECIDED, None, 0)
    higher, lower = (scores(table, agent, to_score) for agent in (claim.higher, claim.lower))
    runs = min(len(higher), len(lower))
    if runs < max(2, claim.best):
        return Verdict(claim, UNDECIDED, None, runs)
    found = difference(higher, lower, claim.best)
    verdict = CONFIRMED if found.low > 0 else CONTRADICTED if found.high < 0 else UNDECIDED
    return Verdict(claim, verdict, found, runs)

"""Trains the runs of a sweep, several at once, and records how they end: sweep.csv."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import math
import pathlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from impala_tf import config as config_lib
from impala_tf.config import Config
from impala_tf.errors import UserError
from impala_tf.experiments import training_runs
from impala_tf.experiments.training_runs import FAILED, TrainingRun
from impala_tf.files import replacing
from impala_tf.records import csv_file

_SCORES = ("human_normalised_mean_capped", "human_normalised")


@dataclasses.dataclass
class Combination(TrainingRun):
    """A run of the sweep.

    Attributes:
      number: from 0; names its folder.
      values: those of its settings that differ between the runs.
    """

    number: int = 0
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """Its row of sweep.csv; numbers that are not known are NaN."""
        last = csv_file.last(self.logdir.progress)
        score = next((last[name] for name in _SCORES if name in last), "")
        return {
            "combination": self.number,
            **self.values,
            "state": self.state,
            "frames": self.logdir.frames,
            "final_return": self.final_return(),
            "score": float(score or "nan"),
            "seconds": float(last.get("seconds") or "nan"),
            "error": self.error,
        }


class Sweep:
    """The runs of a sweep in a folder: sweep.csv, and a folder <number>/ for each run.

    Attributes:
      combinations: the runs.
      csv: sweep.csv, a row for each run: its number, its values, state, frames, final_return (mean of the last 100
        episodes), score (human-normalized; several tasks: mean of the capped ones), seconds, error.
    """

    def __init__(self, folder: pathlib.Path, config: Config, values: Sequence[Mapping[str, Any]]):
        """Names the runs, and looks how far those in the folder are; writes nothing.

        Args:
          folder: of the sweep.
          config: settings that the runs share.
          values: {setting: value} of each run; all have the same settings.

        Raises:
          UserError: the folder holds another sweep or a population, or a run in it has other settings.
        """
        self._folder = folder
        self.csv = folder / "sweep.csv"
        self.combinations = []
        self._check_same(values)
        for number, own in enumerate(values):
            settings = {**config_lib.to_values(config), **own, "logdir": str(folder / f"{number:02}")}
            with named(number):
                made = Combination(f"combination {number}", config_lib.from_values(settings), number=number, values=own)
            made.look(f"--output={folder} holds a sweep", "Give the same flags again, or another --output.")
            self.combinations.append(made)

    def prepare(self) -> None:
        """Makes the folder and writes sweep.csv.

        Raises:
          UserError: they cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--output={self._folder} cannot be written: {error.strerror}.") from None
        self.write()

    def run(self, at_once: int, stop: threading.Event, say_every: float) -> None:
        """Trains what is not finished, until everything has ended or `stop` is set; then runs save and end.

        A run that fails does not stop the others; the next start tries it again.

        Args:
          at_once: runs that train at the same time.
          stop: ends the sweep early.
          say_every: seconds between lines of progress.

        Raises:
          UserError: the folder cannot be written.
        """
        try:
            training_runs.train(self.combinations, at_once, stop, say_every, on_end=lambda each: self.write())
        finally:
            self.write()

    def write(self) -> None:
        """Writes sweep.csv.

        Raises:
          UserError: it could not be written; an earlier one is untouched.
        """
        rows = [each.row() for each in self.combinations]
        try:
            with replacing(self.csv) as partial, open(partial, "w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
        except OSError as error:
            raise UserError(
                f"{self.csv} cannot be written: {error.strerror}. The sweep ends; put that right, and the same command "
                "resumes it."
            ) from None

    def table(self) -> str:
        """Returns a line for each run, the highest final return first."""
        rows = [each.row() for each in self.combinations]
        rows.sort(key=lambda row: -math.inf if math.isnan(row["final_return"]) else row["final_return"], reverse=True)
        columns = [name for name in rows[0] if name != "error" and not _all_missing(rows, name)]
        cells = [columns, *([_shown(row[name]) for name in columns] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*cells)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths)) for line in cells]
        failed = [each for each in self.combinations if each.state == FAILED]
        return "\n".join([*lines, *(f"combination {each.number} failed: {each.error}" for each in failed)])

    def _check_same(self, values: Sequence[Mapping[str, Any]]) -> None:
        """Checks that the folder holds no population, and that sweep.csv, if it exists, is of the first of these."""
        if (self._folder / "population.json").exists():
            raise UserError(f"--output={self._folder} holds a population: give another --output.")
        if not self.csv.exists():
            return
        try:
            with open(self.csv, newline="") as file:
                rows = list(csv.DictReader(file))
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{self.csv} cannot be read: {getattr(error, 'strerror', error)}.") from None
        if [row.get("combination") for row in rows] != [str(number) for number in range(len(rows))]:
            raise UserError(
                f"{self.csv} is damaged: its rows are not combinations 0, 1, 2 and so on. Mend it, or move it away: it "
                "is written anew from the runs' folders."
            )
        problem = f"{len(rows)} there, {len(values)} now" if len(rows) > len(values) else ""
        for number, (row, own) in enumerate(zip(rows, values)):
            now = {name: str(value) for name, value in own.items()}
            there = {name: row.get(name) for name in now}
            if there != now:
                name = next(name for name in now if there[name] != now[name])
                problem = f"combination {number}: {name} {there[name]} there, {now[name]} now"
                break
        if problem:
            raise UserError(
                f"{self.csv} belongs to a sweep with other values ({problem}): give the same values again, to which "
                "more may be appended, or another --output."
            )


@contextlib.contextmanager
def named(number: int) -> Iterator[None]:
    """Names a combination, and its row in a file of values, in a UserError about its settings."""
    try:
        yield
    except UserError as error:
        raise UserError(f"combination {number} (row {number + 2}): {error}") from None


def _all_missing(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    return all(isinstance(row[name], float) and math.isnan(row[name]) for row in rows)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)

"""population.csv: a row for every evaluation of every member, with what the member then did.

| column | |
|---|---|
| `time` | seconds since 1970 |
| `member`, `evaluation` | numbers of the member, from 0, and of its evaluation, from 1 |
| `frames` | environment frames behind the checkpoint, those of copied members included |
| `fitness` | score of the episodes since the last evaluation; -inf if the member could not train |
| `episodes` | how many these are |
| each tunable setting | its value while the member trained for this evaluation |
| `copied_from`, `copied_evaluation` | whose checkpoint and values the member took afterwards, of which evaluation; empty: its own |
| `perturbed` | what it then multiplied, as "learning_rate*1.2 entropy_cost/1.2" |
| `frames_trained`, `seconds` | what the member itself has computed so far, and for how long, starts included |

A row is written before the member changes, so that a decision is made once, whenever the program is killed.
"""  # noqa: E501

from __future__ import annotations

import csv
import io
import math
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from impala_tf.errors import UserError
from impala_tf.experiments.population.member import Evaluation
from impala_tf.experiments.population.rule import Decision

_FIRST = ("time", "member", "evaluation", "frames", "fitness", "episodes")
_LAST = ("copied_from", "copied_evaluation", "perturbed", "frames_trained", "seconds")


@dataclass(frozen=True)
class Row:
    """A row of population.csv; attributes as the columns.

    Attributes:
      values: {tunable setting: value}.
      copied: (member, evaluation) of the checkpoint and values taken; None: its own.
      factors: {setting: factor} of what was perturbed.
    """

    time: float
    member: int
    evaluation: int
    frames: int
    fitness: float
    episodes: int
    values: Mapping[str, float]
    copied: tuple[int, int] | None
    factors: Mapping[str, float]
    frames_trained: int
    seconds: float

    @property
    def goes_on_from(self) -> tuple[int, int]:
        """(member, evaluation) from which the member's next evaluation descends."""
        return self.copied or (self.member, self.evaluation)


class Record:
    """The rows of a population so far; `add` appends to the file.

    Attributes:
      rows: in the order in which they were written.
    """

    def __init__(self, path: pathlib.Path, names: Sequence[str], factor: float):
        """Reads the file, if it exists.

        Args:
          path: of the file.
          names: settings under adaptation.
          factor: by which they are perturbed.

        Raises:
          UserError: the file is damaged, or is of other settings.
        """
        self._path, self._factor = path, factor
        self._fields = (*_FIRST, *names, *_LAST)
        self.rows: list[Row] = list(self._read()) if path.exists() else []
        self._by_key = {(row.member, row.evaluation): row for row in self.rows}

    def find(self, member: int, evaluation: int) -> Row | None:
        """Returns the row of an evaluation; None if there is none yet."""
        return self._by_key.get((member, evaluation))

    def last(self, member: int) -> Row | None:
        """Returns a member's last row; None before its first evaluation."""
        return next((row for row in reversed(self.rows) if row.member == member), None)

    def ancestry(self, member: int) -> list[Row]:
        """Returns the evaluations of which a member's last one is the outcome, oldest first (Figure 5).

        Where the member has copied another, they are the other's; the evaluation after which it did so is not among
        them.
        """
        return ancestry(self.rows, member)

    def add(self, made: Evaluation, now: float, values: Mapping[str, float], decision: Decision) -> Row:
        """Writes the row of an evaluation and what the member does after it.

        Raises:
          OSError: it could not be written; the file is as it was before.
        """
        source = self.last(decision.copied_from) if decision.copied_from is not None else None
        copied = (source.member, source.evaluation) if source else None
        row = Row(
            now,
            made.member,
            made.evaluation,
            made.frames,
            made.fitness,
            made.episodes,
            dict(values),
            copied,
            dict(decision.factors),
            made.frames_trained,
            made.seconds,
        )
        self._write(row)
        self.rows.append(row)
        self._by_key[row.member, row.evaluation] = row
        return row

    def _write(self, row: Row) -> None:
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        if not self.rows:
            writer.writerow(self._fields)
        first = (f"{row.time:.3f}", row.member, row.evaluation, row.frames, repr(row.fitness), row.episodes)
        marks = " ".join(f"{n}{'*' if f > 1 else '/'}{self._factor:g}" for n, f in row.factors.items())
        last = (*(row.copied or ("", "")), marks, row.frames_trained, f"{row.seconds:.3f}")
        writer.writerow([*first, *map(repr, row.values.values()), *last])
        data = text.getvalue().encode()
        with open(self._path, "r+b" if self.rows else "wb", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if file.write(data) != len(data):  # The disk took a part of it.
                os.ftruncate(file.fileno(), size)
                raise OSError(f"{self._path} could not be written: the disk is full")
            os.fsync(file.fileno())

    def _read(self) -> Iterator[Row]:
        text = self._path.read_text()
        whole = text[: text.rfind("\n") + 1]
        if whole != text:  # The machine went down in the middle of a line.
            self._path.write_text(whole)
        lines = list(csv.reader(io.StringIO(whole)))
        if lines and tuple(lines[0]) != self._fields:
            raise UserError(
                f"{self._path} is of a population with the columns {', '.join(lines[0])}, not "
                f"{', '.join(self._fields)}: give another --output."
            )
        for number, line in enumerate(lines[1:], start=2):
            try:
                yield self._row(dict(zip(self._fields, line)))
            except (KeyError, ValueError) as error:
                raise UserError(f"{self._path}, line {number}, is not a row of a population ({error}).") from None

    def _row(self, of: Mapping[str, str]) -> Row:
        factors = {}
        for mark in of["perturbed"].split():
            name, _, factor = mark.replace("/", "*").partition("*")
            factors[name] = float(factor) if "*" in mark else 1 / float(factor)
        copied = (int(of["copied_from"]), int(of["copied_evaluation"])) if of["copied_from"] else None
        values = {name: float(of[name]) for name in self._fields[len(_FIRST) : -len(_LAST)]}
        return Row(
            *(float(of["time"]), int(of["member"]), int(of["evaluation"]), int(of["frames"]), float(of["fitness"])),
            int(of["episodes"]),
            values,
            copied,
            factors,
            int(of["frames_trained"]),
            float(of["seconds"]),
        )


def ancestry(rows: Sequence[Row], member: int) -> list[Row]:
    """As `Record.ancestry`."""
    by_key = {(row.member, row.evaluation): row for row in rows}
    found: list[Row] = []
    at = max((key for key in by_key if key[0] == member), default=None)
    while at is not None:
        found.append(by_key[at])
        before = by_key.get((at[0], at[1] - 1))
        at = before.goes_on_from if before else None
    return found[::-1]


def best(rows: Sequence[Row], members: Sequence[int]) -> int | None:
    """Returns the member with the highest last fitness; None before the first evaluation."""
    last = {row.member: row.fitness for row in rows}
    scored = [m for m in members if math.isfinite(last.get(m, math.nan))]
    return max(scored, key=last.__getitem__) if scored else None

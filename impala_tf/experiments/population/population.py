"""A population: its members, its record, and what happens after an evaluation. Knows nothing of where members train."""

from __future__ import annotations

import dataclasses
import datetime
import json
import logging
import math
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from impala_tf import config as config_lib
from impala_tf.config import Config
from impala_tf.errors import UserError
from impala_tf.experiments.population import fitness, rule
from impala_tf.experiments.population.member import Evaluation, Member
from impala_tf.experiments.population.record import Record, Row, best
from impala_tf.experiments.population.rule import Rule
from impala_tf.files import write_json

_LOGGER = logging.getLogger(__name__)
_NO_ANNEALING = 10**18
_FLAGS = {
    "margin": "copy_margin",
    "probability": "perturb_probability",
    "factor": "perturb_factor",
    "burn_in_frames": "burn_in_frames",
    "episodes": "episodes_per_evaluation",
    "seed": "seed",
}
"""{name in population.json: flag}."""


@dataclasses.dataclass(frozen=True)
class Population:
    """A population's settings.

    Attributes:
      folder: of the population: population.json, population.csv, members/<number>/.
      config: settings of every member's run; total_frames are a member's.
      tasks: environment ids of the run's tasks.
      initial: tunable settings with which each member begins; all have the same ones.
      rule: numbers of the rule.
      episodes: episodes of a member between two of its evaluations.
      seed: of the decisions.
    """

    folder: pathlib.Path
    config: Config
    tasks: tuple[str, ...]
    initial: Sequence[Mapping[str, float]]
    rule: Rule
    episodes: int
    seed: int

    @property
    def names(self) -> tuple[str, ...]:
        """Settings under adaptation."""
        return tuple(self.initial[0])

    @property
    def csv(self) -> pathlib.Path:
        """population.csv."""
        return self.folder / "population.csv"

    def member(self, number: int) -> Member:
        """Opens a member; reads its folder."""
        folder = self.folder / "members" / f"{number:02}"
        # The schedule that a population finds takes the place of annealing (Figure F.1), unless that is asked for.
        optimizer = dataclasses.replace(self.config.optimizer, annealing_frames=self._annealing_frames)
        config = dataclasses.replace(self.config, optimizer=optimizer)
        return Member(folder, number, config, self.tasks, self.initial[number], self.episodes)

    @property
    def _annealing_frames(self) -> int:
        return self.config.optimizer.annealing_frames or _NO_ANNEALING

    def prepare(self) -> None:
        """Makes the folder, or checks that its population can go on with these settings.

        Raises:
          UserError: it cannot, or the folder holds a sweep or cannot be written.
        """
        if (self.folder / "sweep.csv").exists():
            raise UserError(f"--output={self.folder} holds a sweep: give another --output.")
        file = self.folder / "population.json"
        values, free = config_lib.to_values(self.config), "the settings that a resumed run may change"
        now = {
            "fitness": fitness.kind(self.tasks),
            "initial": [dict(values) for values in self.initial],
            "rule": dataclasses.asdict(self.rule),
            "episodes": self.episodes,
            "seed": self.seed,
            "settings": {name: values[name] for name in sorted(config_lib.FIXED)},
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if file.exists():
                before = json.loads(file.read_text())
                if differing := self._differing(before, now):
                    raise UserError(
                        f"--output={self.folder} holds a population with other settings: {'; '.join(differing)}. "
                        f"Give the same flags again, apart from {free}, or another --output."
                    )
            write_json(file, now)
        except (ValueError, AttributeError, TypeError):  # No JSON, or of another shape.
            raise UserError(f"{file} is damaged: mend it, or give another --output.") from None
        except OSError as error:
            raise UserError(f"--output={self.folder} cannot be used: {error.strerror} ({error.filename}).") from None

    def _differing(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
        """Says how this population differs from the one in its folder, as "--batch_size: 8 there, 9 now"."""
        there, here = ({**of, **of.get("rule", {})} for of in (before, now))
        differing = [
            f"--{f}: {there.get(n)} there, {here[n]} now" for n, f in _FLAGS.items() if there.get(n) != here[n]
        ]
        if there.get("fitness") != here["fitness"]:
            differing.append(f"fitness: {there.get('fitness')} there, {here['fitness']} now")
        first, given = there.get("initial", []), here["initial"]
        if len(first) != len(given):
            differing.append(f"--members: {len(first)} there, {len(given)} now")
        elif first != given:
            number = next(number for number, values in enumerate(given) if values != first[number])
            differing.append(
                f"first values of member {number}: {_text(first[number])} there, {_text(given[number])} now"
            )
        settings = config_lib.fixed_differences(there.get("settings", {}), self.config)
        return list(dict.fromkeys([*differing, *settings]))  # The seed is among both.


def _text(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items())


class Evolution:
    """What the process that drives a population does: records evaluations, decides, and changes members.

    Attributes:
      record: of the population.
    """

    def __init__(self, population: Population):
        """Reads the record, and finishes what was left half-done when the last driver ended.

        Raises:
          UserError: the record is damaged.
        """
        self._population = population
        self.record = Record(population.csv, population.names, population.rule.factor)
        self._left: set[int] = set()  # Members that have reached their frames.
        self._problems: dict[int, str] = {}
        self._begun = self._said = time.monotonic()
        for number in range(len(population.initial)):
            member = population.member(number)
            if row := self.record.find(number, member.evaluations + 1):
                self._apply(member, row)
            if (last := self.record.last(number)) and last.frames >= population.config.run.total_frames:
                self._left.add(number)

    def evaluated(self, made: Evaluation) -> Row:
        """Records a member's evaluation and lets it evolve, unless it has reached its frames.

        Raises:
          UserError: no member can train.
          OSError: a file cannot be written.
        """
        population, member = self._population, self._population.member(made.member)
        row = self.record.find(made.member, made.evaluation)
        if row is None:
            decision = rule.STAYS
            if made.finished:
                self._left.add(made.member)
            else:
                numbers = range(len(population.initial))
                decision = rule.evolve(
                    made.member,
                    made.frames,
                    made.fitness,
                    [self._score(number) if number != made.member else made.fitness for number in numbers],
                    population.names,
                    population.rule,
                    rule.generator(population.seed, made.member, made.evaluation),
                )
            row = self.record.add(made, time.time(), member.values, decision)
        self._apply(member, row)
        self._note(made, row)
        return row

    def say(self, every: float, training: int) -> None:
        """Logs a line of progress if the last one is `every` seconds old."""
        now = time.monotonic()
        if now - self._said < every:
            return
        self._said = now
        numbers, rows = range(len(self._population.initial)), self.record.rows
        frames = [self._population.member(number).frames for number in numbers]
        slowest = min(1.0, min(frames) / self._population.config.run.total_frames)
        parts = [
            f"{sum(map(self._trained, numbers, frames)):,} frames in total",
            f"slowest member {slowest:.0%}",
            _counted(len(rows), "evaluation", "evaluations"),
            _counted(sum(row.copied is not None for row in rows), "copy", "copies"),
        ]
        if (top := best(rows, numbers)) is not None and (last := self.record.last(top)):
            parts.append(f"best fitness {last.fitness:.3f} (member {top}, {last.frames:,} frames)")
        parts += [f"{training} of {len(numbers)} training", str(datetime.timedelta(seconds=int(now - self._begun)))]
        _LOGGER.info("; ".join(parts))

    def _trained(self, number: int, frames: int) -> int:
        """Environment frames that a member has computed itself, now that it has `frames` behind it."""
        row = self.record.last(number)
        if row is None:
            return frames
        begun = self.record.find(*row.goes_on_from) or row
        return row.frames_trained + max(0, frames - begun.frames)

    def _score(self, number: int) -> float | None:
        """The score that others compare themselves with; None if the member cannot be copied."""
        row = self.record.last(number)
        return None if row is None or number in self._left else row.fitness

    def _apply(self, member: Member, row: Row) -> None:
        """Lets a member go on as its row says; does nothing if it does already."""
        if member.evaluations >= row.evaluation:
            return
        source = self._population.member(row.copied[0]) if row.copied else None
        copied = self.record.find(*row.copied) if row.copied else None
        values = rule.values_after(copied.values if copied else row.values, row.factors)
        member.evolve(values, source, row.copied[1] if row.copied else 0)

    def _note(self, made: Evaluation, row: Row) -> None:
        """Logs a member that cannot train; raises UserError if none can."""
        if made.fitness != -math.inf:
            self._problems.pop(made.member, None)
            if made.problem:
                _LOGGER.warning("member %d's run failed and was resumed: %s", made.member, made.problem)
            return
        goes_on = f"it goes on from member {row.copied[0]}" if row.copied else "it tries again"
        _LOGGER.warning("member %d cannot train: %s; %s", made.member, made.problem, goes_on)
        if row.copied:
            return
        self._problems[made.member] = made.problem
        if len(self._problems) == len(self._population.initial):
            raise UserError(f"No member of the population can train: {made.problem}")


def _counted(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"

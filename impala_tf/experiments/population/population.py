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


@dataclasses.dataclass(frozen=True)
class Population:
    """What a population is made of.

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
        """Takes a member up; reads its folder."""
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
          UserError: it cannot, or the folder cannot be written.
        """
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
                if differing := [name for name in now if before.get(name) != now[name]]:
                    raise UserError(
                        f"--output={self.folder} holds a population with other {', '.join(differing)} (see {file}): "
                        f"give the same flags again, apart from {free}, or another --output."
                    )
            write_json(file, now)
        except ValueError:
            raise UserError(f"{file} is damaged: mend it, or give another --output.") from None
        except OSError as error:
            raise UserError(f"--output={self.folder} cannot be used: {error.strerror} ({error.filename}).") from None


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
        if now - self._said < every or not self.record.rows:
            return
        self._said = now
        numbers = range(len(self._population.initial))
        last = {number: row for number in numbers if (row := self.record.last(number))}
        top = best(self.record.rows, numbers)
        trained, total = sum(row.frames_trained for row in last.values()), self._population.config.run.total_frames
        leader = "" if top is None else f"best {last[top].fitness:.3f} (member {top}, {last[top].frames:,} frames)  "
        copies = sum(row.copied is not None for row in self.record.rows)
        done = min((row.frames for row in last.values()), default=0) if len(last) == len(numbers) else 0
        _LOGGER.info(
            f"{trained:>13,} frames of all  {min(1.0, done / total):4.0%} at least  "
            f"{len(self.record.rows)} evaluations  {copies} copies  {leader}"
            f"{training} of {len(numbers)} training  {datetime.timedelta(seconds=int(now - self._begun))}"
        )

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

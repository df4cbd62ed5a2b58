"""A member of a population: a training run in a folder, which trains to its next evaluation, and evolves.

Everything that a member is lies in its folder, so that it can go on wherever and whenever another process opens it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import pathlib
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from impala_tf.config import Config
from impala_tf.experiments import runs
from impala_tf.experiments.population import fitness
from impala_tf.files import write_json
from impala_tf.records import csv_file, tuning
from impala_tf.records.logdir import LogDir, saved

_LOOK_SECONDS = 0.1
_SAVE_SECONDS = 60.0  # A run takes 8 s at most to save, and then draws its curve.
_START_SECONDS = 1200.0
_TRIES = 3
_KEPT = 2  # Evaluated checkpoints: the last one may be replaced while somebody copies it.


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a member has reached.

    Attributes:
      member: its number.
      evaluation: number of this evaluation, from 1.
      frames: environment frames behind the checkpoint, those of copied members included.
      fitness: score of the episodes since the last evaluation; -inf if the member could not train.
      episodes: how many these are.
      frames_trained: environment frames that the member itself has computed, also those that a copy has replaced.
      seconds: wall-clock time for which it has trained itself, starts included.
      finished: whether it has reached its frames.
      problem: why its run has failed since the last evaluation, last; "" if it has not.
    """

    member: int
    evaluation: int
    frames: int
    fitness: float
    episodes: int
    frames_trained: int
    seconds: float
    finished: bool
    problem: str = ""


class Member:
    """A member's folder: `run` is the run's, `evaluated` keeps the checkpoints of the last evaluations."""

    def __init__(
        self,
        folder: pathlib.Path,
        number: int,
        config: Config,
        tasks: tuple[str, ...],
        values: Mapping[str, float],
        episodes: int,
    ):
        """Opens a member; its folder need not exist.

        Args:
          folder: its folder.
          number: its number, from 0.
          config: settings of the runs of all members.
          tasks: environment ids of the run's tasks.
          values: tunable settings with which it begins.
          episodes: episodes between two evaluations.
        """
        self.number, self._folder, self._tasks, self._episodes = number, folder, tasks, episodes
        self._state_file = folder / "member.json"
        self._logdir = LogDir(str(folder / "run"))
        own = dataclasses.replace(config.run, logdir=str(self._logdir.path), seed=config.run.seed + number)
        self._config = dataclasses.replace(config, run=own)
        self._state: dict[str, Any] = {
            "evaluations": 0,  # After which it has evolved.
            "values": dict(values),
            "counts": {task: [0, 0.0] for task in tasks},  # At the last evaluation.
            "frames_trained": 0,
            "seconds": 0.0,
            "pending": None,  # An evaluation after which it has not evolved yet.
        }
        if self._state_file.exists():
            self._state = json.loads(self._state_file.read_text())

    @property
    def evaluations(self) -> int:
        """Number of evaluations after which it has evolved."""
        return self._state["evaluations"]

    @property
    def values(self) -> dict[str, float]:
        """Its tunable settings."""
        return dict(self._state["values"])

    @property
    def frames(self) -> int:
        """Environment frames that its run has logged; those of its newest checkpoint before it logs any."""
        with contextlib.suppress(OSError, KeyError, ValueError):  # The run is just moving the file.
            return int(csv_file.last(self._logdir.progress)["frames"])
        return self._logdir.frames

    def kept(self, evaluation: int) -> pathlib.Path:
        """Folder of the checkpoint of an evaluation; only the last ones are there."""
        return self._folder / "evaluated" / f"{evaluation:06}"

    def train(self, stop: Callable[[], bool]) -> Evaluation | None:
        """Trains to the next evaluation; returns None if `stop` returned True before, with a checkpoint to resume from.

        A run that fails is resumed. If it fails three times without getting further, the evaluation says so.
        An evaluation after which the member has not evolved is returned again.
        """
        if self._state["pending"]:
            return Evaluation(**self._state["pending"])
        failures, seen = 0, ""
        while True:
            frames, begun = self._logdir.frames, time.monotonic()
            problem = self._run(stop)
            seen = problem or seen
            done = self._logdir.frames - frames
            self._state["frames_trained"] += max(0, done)
            self._state["seconds"] += time.monotonic() - begun
            self._save()
            if stop():
                return None
            if problem:
                failures = 0 if done else failures + 1
                if failures == _TRIES:
                    return self._evaluated(-math.inf, 0, seen)
                continue
            counts = self._counts()
            before = {task: (int(n), float(total)) for task, (n, total) in self._state["counts"].items()}
            ended = sum(n for n, _ in counts.values()) - sum(n for n, _ in before.values())
            score = fitness.fitness(before, counts)
            if score is not None and (ended >= self._episodes or self._finished):
                self._state["counts"] = counts
                return self._evaluated(score, ended, seen)
            if self._finished:  # It has ended before every task has had an episode: there is no score.
                return self._evaluated(math.nan, ended, seen)

    def evolve(self, values: Mapping[str, float], source: Member | None, evaluation: int) -> None:
        """Goes on after the pending evaluation. Doing it again does no harm.

        Args:
          values: tunable settings from now on.
          source: the member whose checkpoint it takes; None: it keeps its own.
          evaluation: of the source.

        Raises:
          UserError: its run is in use.
          OSError: the files cannot be read or written.
        """
        config = tuning.with_values(self._config, dict(values))
        if source is not None:
            name = f"member {source.number}, evaluation {evaluation}"
            tuning.adopt(self._logdir, config, source.kept(evaluation), name)
            self._state["counts"] = self._counts()
        elif dict(values) != self._state["values"] and self._logdir.frames:
            tuning.tune(self._logdir, config)
        pending = self._state["pending"]
        self._state |= {"evaluations": pending["evaluation"], "values": dict(values), "pending": None}
        self._save()

    @property
    def _finished(self) -> bool:
        return self._logdir.frames >= self._config.run.total_frames

    def _run(self, stop: Callable[[], bool]) -> str:
        """Runs until enough episodes have ended; returns why it failed, or ""."""
        if self._finished:
            return ""
        aim = sum(int(n) for n, _ in self._state["counts"].values()) + self._episodes
        patience = _START_SECONDS + 2 * self._config.launch.stall_timeout
        written, asked = time.time(), False  # Earlier rows may be of training that was lost.
        command = runs.start(tuning.with_values(self._config, self._state["values"]))
        try:
            while command.status is None and not asked:
                time.sleep(_LOOK_SECONDS)
                row = csv_file.last(self._logdir.progress)
                if float(row.get("time", 0)) > written:
                    written, asked = float(row["time"]), int(row["episodes"]) >= aim
                elif time.time() - written > patience:
                    return f"it made no progress for {patience:g} s"
                asked = asked or stop()
        finally:
            command.end(_SAVE_SECONDS)
        ended = (0, *((128 + signal.SIGTERM, -signal.SIGTERM) if asked else ()))  # The latter while it still starts.
        return "" if command.status in ended else command.error()

    def _counts(self) -> dict[str, tuple[int, float]]:
        """Counts of all episodes behind the newest checkpoint."""
        newest = saved(self._logdir.checkpoints)
        if not newest:
            return {task: (0, 0.0) for task in self._tasks}
        return dict(fitness.counts(json.loads((newest[0] / "state.json").read_text()), self._tasks))

    def _evaluated(self, score: float, episodes: int, problem: str = "") -> Evaluation:
        """Keeps the checkpoint and records the evaluation, after which the member has to evolve."""
        made = Evaluation(
            self.number,
            self.evaluations + 1,
            self._logdir.frames,
            score,
            episodes,
            self._state["frames_trained"],
            self._state["seconds"],
            self._finished,
            problem,
        )
        if self._logdir.frames and score != -math.inf:
            kept = self.kept(made.evaluation)
            kept.parent.mkdir(exist_ok=True)
            tuning.keep(self._logdir, kept)
            for old in sorted(kept.parent.glob("[0-9]*"))[:-_KEPT]:
                shutil.rmtree(old, ignore_errors=True)
        self._state["pending"] = dataclasses.asdict(made)
        self._save()
        return made

    def _save(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_json(self._state_file, self._state)

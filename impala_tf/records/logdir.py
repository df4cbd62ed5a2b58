"""The folder of a run: its settings, its lock and the paths of its files."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import pathlib
import re
import secrets
import shutil
import time
from typing import Any

from impala_tf import config as config_lib
from impala_tf.errors import UserError
from impala_tf.files import replacing, write_json
from impala_tf.records import csv_file, provenance
from impala_tf.topology import Topology

OF_ONE_PROCESS = ("logdir", "cluster", "role", "address", "port", "actor_id", "learner_id", "learners")
"""Settings of a single process, which are no settings of the run."""

_LOCK_SECONDS = 1.0  # A process that was killed holds its lock until the system has cleared its memory.
_CLAIM = ".claim"
_LEFT_OPEN = "left_open"
_STARTED = "started"
_TUNED = "tuned"
_LOGGER = logging.getLogger(__name__)


class LogDir:
    """Paths in a run's folder.

    Attributes:
      path: the folder.
      config: config.json, the settings of the last start, with the numbers that flags left open as they were resolved;
        under "left_open", these flags as they were given; under "started", versions, commit, command, machine and time;
        under "tuned", what a population has changed (`records.tuning`).
      checkpoints: folder of the checkpoints.
      progress: progress.csv, one row per log interval.
      tasks: tasks.csv, one row per log interval and task; only for runs with several tasks.
      evaluations: evaluations.csv, one row per evaluated SavedModel and task; only if there were evaluations.
      exports: folder of the SavedModels.
      evaluation_results: folder of the evaluations' result files.
      evaluation: folder of what impala-evaluate writes.
      curve: learning_curve.png.
      model_card: model_card.md, what was trained, how, and how well it performs.
      tensorboard: folder of TensorBoard's event files.
      logs: folder of each process's standard error.
    """

    def __init__(self, path: str):
        """Names the paths; the folder need not exist."""
        self.path = pathlib.Path(path)
        self.config = self.path / "config.json"
        self.checkpoints = self.path / "checkpoints"
        self.progress = self.path / "progress.csv"
        self.tasks = self.path / "tasks.csv"
        self.evaluations = self.path / "evaluations.csv"
        self.exports = self.path / "exports"
        self.evaluation_results = self.path / "evaluations"
        self.evaluation = self.path / "evaluation"
        self.curve = self.path / "learning_curve.png"
        self.model_card = self.path / "model_card.md"
        self.tensorboard = self.path / "tensorboard"
        self.logs = self.path / "logs"

        self._locked: tuple[int, int] | None = None
        self._claim: str | None = None

    @property
    def frames(self) -> int:
        """Environment frames in the newest checkpoint; 0 if there is none."""
        return max((int(path.name) for path in saved(self.checkpoints)), default=0)

    def prepare(self, config: config_lib.Config, topology: Topology | None = None) -> None:
        """Makes the folder ready for training, from its newest checkpoint or from scratch; hold its lock.

        Claims the folder, which `check_there` notices in a process that has prepared it before. Removes what killed
        processes left half-written, keeps the records of a run whose checkpoints are gone under another name, and
        writes config.json, which later starts in this folder are checked against.

        Args:
          config: settings of the run.
          topology: holds the numbers that the settings may leave open.

        Raises:
          UserError: as in `check`, or a file cannot be written.
        """
        self.check(config)
        values = config_lib.to_values(config)
        resolved = {name: getattr(topology, name) for name in values if hasattr(topology, name)}
        for name in OF_ONE_PROCESS:
            resolved.pop(name, None)
        left_open = {name: values[name] for name, number in resolved.items() if values[name] != number}
        try:
            claim = secrets.token_hex(16)
            with replacing(self.path / _CLAIM) as partial:
                partial.write_text(claim)
            self._claim = claim
            self._remove_half_written()
            if earlier := self.set_aside():
                _LOGGER.warning(
                    "%s holds the logs of a run but no checkpoint to resume it from: training starts from scratch, and "
                    "what was there is kept in %s",
                    self.path,
                    earlier,
                )
            tuned = {_TUNED: history} if (history := self.read_tuned()) else {}
            started = {_LEFT_OPEN: left_open, _STARTED: provenance.describe()}
            write_json(self.config, {**values, **resolved, **started, **tuned})
        except OSError as error:
            named = error.filename or self.config
            raise UserError(f"--logdir={self.path} cannot be prepared: {error.strerror} ({named}).") from None

    def set_aside(self) -> pathlib.Path | None:
        """If there are records but no checkpoint, moves all of them to a new folder, earlier-<number>; returns it."""
        tables = (self.progress, self.tasks, self.evaluations)
        written = (self.exports, self.evaluation_results, self.evaluation)
        folders = [path for path in written if path.is_dir() and any(path.iterdir())]
        if self.frames or not (folders or any(csv_file.has_rows(path) for path in tables)):
            return None
        number = 1
        while (earlier := self.path / f"earlier-{number}").exists():
            number += 1
        earlier.mkdir()
        for path in (*tables, *folders, self.tensorboard, self.curve, self.model_card, self.config):
            if path.exists():
                path.rename(earlier / path.name)
        return earlier

    def _remove_half_written(self) -> None:
        """Removes temporary files and folders of processes that have ended; each has its process's id in its name."""
        named = {
            self.path: r"\.write-test-(\d+)|\.(\d+)\..+",
            self.exports: r"\.\d+\.(\d+)",
            self.evaluation_results: r"\.(\d+)\..+",
        }
        for folder, pattern in named.items():
            for path in folder.iterdir() if folder.is_dir() else ():
                found = re.fullmatch(pattern, path.name)
                if found and not _is_running(int(next(filter(None, found.groups())))):
                    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def check(self, config: config_lib.Config) -> None:
        """Creates the folder if it is missing, and checks that its run can be resumed with these settings.

        The settings of a run that has no checkpoint yet bind nobody.

        Raises:
          UserError: --logdir is empty, the folder cannot be written, its run has other settings, or one of its CSV
            files is damaged.
        """
        if not config.run.logdir:
            raise UserError("--logdir is needed: the folder for checkpoints and logs, for example --logdir=runs/pong.")
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            probe = self.path / f".write-test-{os.getpid()}"
            probe.write_text("")
            probe.unlink()
            settings = self._read() if self.config.exists() else {}
        except OSError as error:
            raise UserError(f"--logdir={self.path} cannot be used: {error.strerror} ({error.filename}).") from None
        differences = config_lib.fixed_differences(settings, config) if settings and self.frames else []
        if differences:
            raise UserError(
                f"--logdir={self.path} holds a run with other settings, which cannot be resumed with these: "
                f"{'; '.join(differences)}. Give --logdir alone, which takes the run's settings, or another --logdir."
            )
        for table in (self.progress, self.tasks, self.evaluations) if self.frames else ():
            csv_file.check(table)

    def read_settings(self) -> dict[str, Any]:
        """Returns {setting: value as the flags gave it} of the last start, from config.json.

        Raises:
          UserError: there is no run, or config.json is damaged.
        """
        try:
            settings = self._read()
        except OSError:
            raise UserError(f"--logdir={self.path} holds no run: it has no {self.config.name}.") from None
        for name in (_STARTED, _TUNED):
            settings.pop(name, None)
        left_open = settings.pop(_LEFT_OPEN, {})
        return {**settings, **left_open}

    def completed(self, given: dict[str, Any]) -> dict[str, Any]:
        """Returns the settings given, and for the others those of the run in this folder, if there is one.

        Args:
          given: {setting: value}.

        Raises:
          UserError: config.json is damaged.
        """
        if not self.config.exists():
            return given
        return {n: v for n, v in self.read_settings().items() if n not in OF_ONE_PROCESS} | given

    def read_started(self) -> dict[str, Any]:
        """Returns what `provenance.describe` said at the last start; {} if config.json is of an older version."""
        return self._read().get(_STARTED, {})

    def read_tuned(self) -> list[dict[str, Any]]:
        """Returns the changes that a population has made to the run, oldest first; see `records.tuning`."""
        return self._read().get(_TUNED, []) if self.config.exists() else []

    def write_tuned(self, config: config_lib.Config, changes: list[dict[str, Any]]) -> None:
        """Writes config.json with other settings and the changes that led to them; hold the folder's lock."""
        write_json(self.config, {**config_lib.to_values(config), _TUNED: changes})

    def read_config(self) -> config_lib.Config:
        """Returns the settings of the run in this folder.

        Raises:
          UserError: there is no run, or config.json is damaged or was written by another version of this package.
        """
        settings = self.read_settings()
        try:
            return config_lib.from_values(settings)
        except (UserError, TypeError) as error:
            raise UserError(f"{self.config} was written by another version of impala_tf: {error}") from None

    def _read(self) -> dict[str, Any]:
        """Reads config.json; raises OSError if it cannot be read and UserError if it is damaged."""
        try:
            settings = json.loads(self.config.read_text())
            if not isinstance(settings, dict):
                raise ValueError
        except ValueError:
            raise UserError(
                f"{self.config} is damaged: it does not hold settings as JSON. Repair it or use another --logdir."
            ) from None
        return settings

    def lock(self) -> Any:
        """Locks the folder against a second learner for as long as the returned file is open.

        Raises:
          UserError: another process holds the lock.
        """
        file = open(self.path / ".lock", "w")  # noqa: SIM115 - the caller keeps it open
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    file.close()
                    raise UserError(
                        f"Another run is using --logdir={self.path}: stop it or use another folder."
                    ) from None
            time.sleep(0.05)
        self._locked = _identity(self.path)
        return file

    def check_there(self) -> None:
        """Checks that the folder, once locked, is still at its path and still this process's; takes about 20 us.

        Where the lock does not reach, as between the machines of some file servers, another learner may have prepared
        the folder meanwhile, because this one was taken for dead. The later one goes on.

        Raises:
          UserError: it has been removed, moved or replaced, or another process has prepared it for itself. Nothing
            should be written to its path any more.
        """
        if self._locked is None:
            return
        claim = self._claim
        try:
            there = self._locked == _identity(self.path) and self.config.exists()
            claim = (self.path / _CLAIM).read_text() if there and claim else claim
        except (FileNotFoundError, NotADirectoryError):
            there = False
        except OSError:  # A file server that is away for a moment, ...
            there = True
        if not there:
            raise UserError(
                f"--logdir={self.path} has been removed or replaced while the run was using it. The run ends and "
                "writes nothing more there."
            )
        if claim != self._claim:
            raise UserError(
                f"Another learner, started later, has taken over --logdir={self.path}. This one ends and writes "
                "nothing more there."
            )


def _identity(path: pathlib.Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def saved(checkpoints: pathlib.Path) -> list[pathlib.Path]:
    """Returns the complete checkpoints in a folder, newest first; each is named by its frame count.

    A checkpoint at 0 frames, which earlier versions wrote, is none: it holds nothing that was learned.
    """
    found = [p for p in checkpoints.iterdir() if p.name.isdecimal()] if checkpoints.is_dir() else []
    return sorted((p for p in found if int(p.name)), key=lambda p: int(p.name), reverse=True)

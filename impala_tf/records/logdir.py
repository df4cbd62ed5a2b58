"""The folder of a run: its settings, its lock and the paths of its files."""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
from typing import Any

from impala_tf import config as config_lib
from impala_tf.errors import UserError
from impala_tf.files import write_json


class LogDir:
    """Paths in a run's folder.

    Attributes:
      path: the folder.
      config: config.json, the settings of the last start.
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

    @property
    def frames(self) -> int:
        """Environment frames in the newest checkpoint; 0 if there is none."""
        return max((int(path.name) for path in saved(self.checkpoints)), default=0)

    def prepare(self, config: config_lib.Config) -> None:
        """Checks the folder and writes config.json, which later starts in this folder are checked against.

        Raises:
          UserError: as in `check`, or config.json cannot be written.
        """
        self.check(config)
        try:
            write_json(self.config, config_lib.to_values(config))
        except OSError as error:
            raise UserError(f"{self.config} cannot be written: {error.strerror}.") from None

    def check(self, config: config_lib.Config) -> None:
        """Creates the folder if it is missing, and checks that its run can be resumed with these settings.

        Raises:
          UserError: --logdir is empty, the folder cannot be written, or its run has other settings.
        """
        if not config.run.logdir:
            raise UserError("--logdir is needed: the folder for checkpoints and logs, for example --logdir=runs/pong.")
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            probe = self.path / f".write-test-{os.getpid()}"
            probe.write_text("")
            probe.unlink()
            settings = self._settings() if self.config.exists() else {}
        except OSError as error:
            raise UserError(f"--logdir={self.path} cannot be used: {error.strerror} ({error.filename}).") from None
        differences = config_lib.fixed_differences(settings, config) if settings else []
        if differences:
            raise UserError(
                f"--logdir={self.path} holds a run with other settings, which cannot be resumed with these: "
                f"{'; '.join(differences)}. Use the run's settings or another --logdir."
            )

    def read_config(self) -> config_lib.Config:
        """Returns the settings of the run in this folder.

        Raises:
          UserError: there is no run, or config.json is damaged or was written by another version of this package.
        """
        try:
            settings = self._settings()
        except OSError:
            raise UserError(f"--logdir={self.path} holds no run: it has no {self.config.name}.") from None
        try:
            return config_lib.from_values(settings)
        except (UserError, TypeError) as error:
            raise UserError(f"{self.config} was written by another version of impala_tf: {error}") from None

    def _settings(self) -> dict[str, Any]:
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
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise UserError(f"Another run is using --logdir={self.path}: stop it or use another folder.") from None
        return file


def saved(checkpoints: pathlib.Path) -> list[pathlib.Path]:
    """Returns the complete checkpoints in a folder, newest first; each is named by its frame count."""
    found = [p for p in checkpoints.iterdir() if p.name.isdecimal()] if checkpoints.is_dir() else []
    return sorted(found, key=lambda p: int(p.name), reverse=True)

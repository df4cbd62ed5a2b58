"""The folder of a run: its settings, who is using it, and where its files are."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from impala_tf import config as config_lib
from impala_tf.errors import UserError


class LogDir:
    """Paths in a run's folder.

    Attributes:
      path: the folder.
      config: config.json, the settings of the last start.
      checkpoints: folder of the checkpoints.
      progress: progress.csv, one row per log interval.
      tasks: tasks.csv, one row per log interval and task; only where there are several tasks.
      evaluations: evaluations.csv, one row per evaluated checkpoint and task; only where it has been evaluated.
      exports: folder of the SavedModels.
      evaluation_results: folder of their evaluations' results.
      curve: learning_curve.png.
      model_card: model_card.md, what was trained, how, and how well it does.
      tensorboard: folder of TensorBoard's event files.
      logs: folder of what each process wrote to its standard error.
    """

    def __init__(self, path: str):
        self.path = pathlib.Path(path)
        self.config = self.path / "config.json"
        self.checkpoints = self.path / "checkpoints"
        self.progress = self.path / "progress.csv"
        self.tasks = self.path / "tasks.csv"
        self.evaluations = self.path / "evaluations.csv"
        self.exports = self.path / "exports"
        self.evaluation_results = self.path / "evaluations"
        self.curve = self.path / "learning_curve.png"
        self.model_card = self.path / "model_card.md"
        self.tensorboard = self.path / "tensorboard"
        self.logs = self.path / "logs"

    @property
    def frames(self) -> int:
        """Environment frames in the newest checkpoint; 0 without one."""
        return max((int(path.name) for path in saved(self.checkpoints)), default=0)

    def prepare(self, config: config_lib.Config) -> None:
        """Checks the folder and writes config.json, which from now on says what may be done in it.

        Raises:
          UserError: as `check`.
        """
        self.check(config)
        try:
            write_json(self.config, config_lib.to_values(config))
        except OSError as error:
            raise UserError(f"{self.config} cannot be written: {error.strerror}.") from None

    def check(self, config: config_lib.Config) -> None:
        """Makes the folder, and refuses one that belongs to a run that cannot go on with these settings.

        Raises:
          UserError: no folder was named, it cannot be written, or its run was made with other settings.
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
                f"--logdir={self.path} holds a run with other settings, which cannot go on with these: "
                f"{'; '.join(differences)}. Use its settings, or another --logdir."
            )

    def read_config(self) -> config_lib.Config:
        """The settings of the run in this folder.

        Raises:
          UserError: there is none, or config.json is damaged or of another version of this package.
        """
        try:
            settings = self._settings()
        except OSError:
            raise UserError(f"--logdir={self.path}: there is no run, for there is no {self.config.name}.") from None
        try:
            return config_lib.from_values(settings)
        except (UserError, TypeError) as error:
            raise UserError(f"{self.config} is not of this version of impala_tf: {error}") from None

    def _settings(self) -> dict[str, Any]:
        """What config.json holds; OSError where it cannot be read."""
        try:
            settings = json.loads(self.config.read_text())
            if not isinstance(settings, dict):
                raise ValueError
        except ValueError:
            raise UserError(
                f"{self.config} is damaged: it does not hold settings as JSON. Mend it, or use another --logdir."
            ) from None
        return settings

    def lock(self) -> Any:
        """Keeps a second learner out for as long as the returned file is open.

        Raises:
          UserError: another process is using the folder.
        """
        file = open(self.path / ".lock", "w")  # noqa: SIM115 - stays open
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise UserError(f"Another run is using --logdir={self.path}: end it, or use another folder.") from None
        return file


def saved(checkpoints: pathlib.Path) -> list[pathlib.Path]:
    """Complete checkpoints in a folder, newest first. Each has its frames for a name."""
    found = [p for p in checkpoints.iterdir() if p.name.isdecimal()] if checkpoints.is_dir() else []
    return sorted(found, key=lambda p: int(p.name), reverse=True)


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes JSON, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=1) + "\n")


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Another name to write under, renamed at the end: a reader finds the old file or the new one, never half of it."""
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)

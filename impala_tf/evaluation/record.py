"""Keeps the finished episodes of an evaluation on disk, so that an interrupted evaluation can be resumed."""

from __future__ import annotations

import fcntl
import json
import pathlib
from typing import Any

from impala_tf.errors import UserError
from impala_tf.evaluation.episodes import Episode


class Record:
    """The file <output>.partial: one line of JSON with the header, then one per finished episode.

    Attributes:
      episodes: {task: {number: episode}}, the finished episodes.
    """

    def __init__(self, output: pathlib.Path, header: dict[str, Any]):
        """Opens the record of an interrupted evaluation, or starts a new one.

        Args:
          output: file of the evaluation's result.
          header: what identifies the evaluation, JSON-able; a record with another header is not resumed.

        Raises:
          UserError: the output exists or cannot be written, or the record is in use or belongs to another evaluation.
        """
        if output.exists():
            raise UserError(f"{output} exists already: give another --output, or remove it first.")
        self.path = output.with_name(output.name + ".partial")
        self.episodes: dict[str, dict[int, Episode]] = {}
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "a+")  # noqa: SIM115 - closed by __exit__
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"Another evaluation is writing {self.path}: wait for it, or give another --output."
            ) from None
        except OSError as error:
            raise UserError(f"--output={output} cannot be written: {error.strerror}.") from None
        self._read(header)

    def _read(self, header: dict[str, Any]) -> None:
        self._file.seek(0)
        text = self._file.read()
        whole = text.rfind("\n") + 1  # Drops a last line that was only partly written.
        try:
            lines = [json.loads(line) for line in text[:whole].splitlines()] or [header]
        except ValueError:
            raise UserError(f"{self.path} is damaged: remove it, or give another --output.") from None
        if lines[0] != header:
            changed = ", ".join(key for key in header if lines[0].get(key) != header[key])
            raise UserError(
                f"{self.path} belongs to another evaluation (different {changed}): remove it, or give another --output."
            )
        self._file.truncate(whole)
        if not whole:
            self._write(header)
        for line in lines[1:]:
            episode = Episode(line["number"], line["seed"], line["return"], line["length"])
            self.episodes.setdefault(line["task"], {})[episode.number] = episode

    def add(self, task: str, episode: Episode) -> None:
        """Adds a finished episode.

        Raises:
          UserError: the file cannot be written.
        """
        self.episodes.setdefault(task, {})[episode.number] = episode
        self._write({"task": task, **as_json(episode)})

    def _write(self, line: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written: {error.strerror}. Earlier episodes are kept; run the same command "
                "again to resume."
            ) from None

    def remove(self) -> None:
        """Removes the file, once the result has been written."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.episodes:
            self.remove()  # There is nothing to resume.
        self._file.close()


def as_json(episode: Episode) -> dict[str, Any]:
    """Returns the JSON form of an episode, in the record and in the result."""
    return {
        "number": episode.number,
        "seed": episode.seed,
        "return": episode.episode_return,
        "length": episode.length,
    }

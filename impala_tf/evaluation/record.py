"""The episodes of an evaluation as they end, kept beside the result to come, so that it can be gone on with."""

from __future__ import annotations

import fcntl
import json
import pathlib
from typing import Any

from impala_tf.errors import UserError
from impala_tf.evaluation.episodes import Episode


class Record:
    """<output>.partial: a line of JSON for what is evaluated, then one for each episode.

    Attributes:
      episodes: {task: {episode's number: episode}}, those that have ended.
    """

    def __init__(self, output: pathlib.Path, header: dict[str, Any]):
        """Opens the record of an interrupted evaluation, or begins one.

        Args:
          output: of the evaluation's result.
          header: what is evaluated, and how.

        Raises:
          UserError: the output exists or cannot be written, or the record is another evaluation's or in use.
        """
        if output.exists():
            raise UserError(f"{output} exists already: give another --output, or remove it first.")
        self.path = output.with_name(output.name + ".partial")
        self.episodes: dict[str, dict[int, Episode]] = {}
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "a+")  # noqa: SIM115 - open until the end
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
        whole = text.rfind("\n") + 1  # A line that was being written when the disk or the process ended is lost.
        try:
            lines = [json.loads(line) for line in text[:whole].splitlines()] or [header]
        except ValueError:
            raise UserError(f"{self.path} is damaged: remove it, or give another --output.") from None
        if lines[0] != header:
            changed = ", ".join(key for key in header if lines[0].get(key) != header[key])
            raise UserError(
                f"{self.path} is of another evaluation (other {changed}): remove it, or give another --output."
            )
        self._file.truncate(whole)
        if not whole:
            self._write(header)
        for line in lines[1:]:
            episode = Episode(line["number"], line["seed"], line["return"], line["length"])
            self.episodes.setdefault(line["task"], {})[episode.number] = episode

    def add(self, task: str, episode: Episode) -> None:
        """Adds an episode that has ended.

        Raises:
          UserError: it cannot be written.
        """
        self.episodes.setdefault(task, {})[episode.number] = episode
        self._write({"task": task, **as_json(episode)})

    def _write(self, line: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written: {error.strerror}. The episodes before are kept; the same command goes "
                "on from there."
            ) from None

    def remove(self) -> None:
        """Removes the file, where the result stands."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.episodes:
            self.remove()  # There is nothing to go on with.
        self._file.close()


def as_json(episode: Episode) -> dict[str, Any]:
    """An episode as the result and its record have it."""
    return {
        "number": episode.number,
        "seed": episode.seed,
        "return": episode.episode_return,
        "length": episode.length,
    }

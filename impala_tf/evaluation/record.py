"""Keeps the finished episodes of an evaluation on disk, so that an interrupted evaluation can be resumed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from impala_tf.errors import UserError
from impala_tf.evaluation.episodes import Episode

AGENT, RANDOM = "agent", "random"
"""Who plays: the evaluated agent, or the random policy that it is compared with."""


class Record:
    """The file <output>.partial: one line of JSON with the header, then one per finished episode.

    Attributes:
      path: the file.
    """

    def __init__(self, output: pathlib.Path, header: dict[str, Any]):
        """Opens the record of an interrupted evaluation, or starts a new one.

        Args:
          output: file of the evaluation's result.
          header: what identifies the evaluation, JSON-able; a record with another header is not resumed.

        Raises:
          UserError: the output cannot be written, or the record is in use or belongs to another evaluation.
        """
        self.path = output.with_name(output.name + ".partial")
        self._episodes: dict[tuple[str, str], dict[int, Episode]] = {}
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
        if changed := differences(lines[0], header):
            raise UserError(
                f"{self.path} belongs to another evaluation (different {changed}): remove it, or give another --output."
            )
        self._file.truncate(whole)
        if not whole:
            self._write(header)
        for line in lines[1:]:
            episode = Episode(line["number"], line["seed"], line["return"], line["length"])
            self._of(line["task"], line["player"])[episode.number] = episode

    def episodes(self, task: str, player: str = AGENT) -> Mapping[int, Episode]:
        """Returns the finished episodes of a task and player, by their numbers."""
        return self._of(task, player)

    def _of(self, task: str, player: str) -> dict[int, Episode]:
        return self._episodes.setdefault((task, player), {})

    def add(self, task: str, episode: Episode, player: str = AGENT) -> None:
        """Adds a finished episode.

        Raises:
          UserError: the file cannot be written, or is no longer there.
        """
        self._of(task, player)[episode.number] = episode
        self._write({"task": task, "player": player, **as_json(episode)})

    def _write(self, line: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written: {error.strerror}. Earlier episodes are kept; run the same command "
                "again to resume."
            ) from None
        if not self.path.exists():  # On Linux, writing to a file that was removed succeeds.
            raise UserError(f"{self.path} has been removed, and the finished episodes with it. Evaluate again.")

    def remove(self) -> None:
        """Removes the file, once the result has been written."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # A full disk: `add` has said so.
            if not any(self._episodes.values()):
                self.remove()  # There is nothing to resume.
            self._file.close()


def differences(given: Mapping[str, Any], header: Mapping[str, Any]) -> str:
    """Returns which entries of a header are others in `given`, for a message. Where the model lies does not matter."""
    return ", ".join(key for key in header if key != "saved_model" and given.get(key) != header[key])


def as_json(episode: Episode) -> dict[str, Any]:
    """Returns the JSON form of an episode, in the record and in the result."""
    return {
        "number": episode.number,
        "seed": episode.seed,
        "return": episode.episode_return,
        "length": episode.length,
    }

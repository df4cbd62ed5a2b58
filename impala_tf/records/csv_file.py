"""CSV files that grow with a run; a resumed run appends to them.

Every row is written by one call, so that a process that is killed leaves whole rows. Should the machine go down or the
disk be full in the middle of one, a last line without its end is left, which readers here ignore.
"""

from __future__ import annotations

import csv
import errno
import io
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from impala_tf.errors import UserError
from impala_tf.files import replacing

_TEXT = ("task",)  # Columns that are not numbers.
_LONGEST_ROW = 16_384  # Bytes.


class CSVFile:
    """Appends rows, which have a column `frames`, to a CSV file; every write is in the file before it returns."""

    def __init__(self, path: pathlib.Path, keep_up_to: int):
        """Opens the file and drops rows past the frame count `keep_up_to`: they describe training that was lost.

        Raises:
          UserError: a line is not a row of such a file; names it. The file is left as it is.
        """
        self._path = path
        self._fields: list[str] | None = None
        if path.exists():
            header, *lines = _lines(path) or [""]
            kept = [line for line, frames in _checked(path, header, lines) if frames <= keep_up_to]
            self._fields = next(csv.reader([header]), None) or None
            text = "".join([header, *kept])
            if path.stat().st_size != len(text.encode()):
                with replacing(path) as partial:
                    partial.write_bytes(text.encode())
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - open until close()

    def write(self, *rows: dict[str, Any]) -> None:
        """Appends rows; the keys of the file's first row become its columns.

        Raises:
          OSError: they could not be written; the file is as it was before.
        """
        if not rows:
            return
        text = io.StringIO(newline="")
        fields = self._fields or list(rows[0])
        writer = csv.DictWriter(text, fields, extrasaction="ignore", lineterminator="\r\n")
        if self._fields is None:
            writer.writeheader()
        writer.writerows(rows)
        data = text.getvalue().encode()
        size = os.fstat(self._file.fileno()).st_size
        written = self._file.write(data)
        if written != len(data):  # The disk took a part of it.
            os.ftruncate(self._file.fileno(), size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        self._fields = fields

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read(path: pathlib.Path) -> Any:
    """Returns the file's rows as a pandas.DataFrame, or None if the file is missing or has no rows.

    Raises:
      UserError: a line is not a row of such a file; names it.
    """
    import pandas as pd  # Takes a second to import; only needed at the end of a run.

    header, *lines = (_lines(path) if path.exists() else []) or [""]
    rows = [line for line, _ in _checked(path, header, lines)]
    return pd.read_csv(io.StringIO("".join([header, *rows]))) if rows else None


def last(path: pathlib.Path) -> dict[str, str]:
    """Returns the file's last whole row as text, without reading what lies before; {} if there is none."""
    if not has_rows(path):
        return {}
    with open(path, "rb") as file:
        header = file.readline()
        start = max(len(header), os.fstat(file.fileno()).st_size - _LONGEST_ROW)
        file.seek(start)
        rows = file.read().split(b"\n")[:-1]
    if not rows:  # The first one was not written whole.
        return {}
    fields, row = (next(csv.reader([line.decode(errors="replace")])) for line in (header, rows[-1]))
    return dict(zip(fields, row)) if len(row) == len(fields) else {}


def check(path: pathlib.Path) -> None:
    """Raises UserError if the file exists and a line is not a row of such a file; names it."""
    header, *lines = (_lines(path) if path.exists() else []) or [""]
    for _ in _checked(path, header, lines):
        pass


def has_rows(path: pathlib.Path) -> bool:
    """Returns whether the file exists and has more than a line of column names."""
    if not path.exists():
        return False
    with open(path, "rb") as file:
        return bool(file.readline() and file.readline())


def _lines(path: pathlib.Path) -> list[str]:
    """Returns the file's lines with their ends, without a last one that was not written to its end."""
    # What is not UTF-8 is neither a number nor the name of a column: `_checked` names its line.
    return [line + "\n" for line in path.read_bytes().decode(errors="replace").split("\n")[:-1]]


def _checked(path: pathlib.Path, header: str, lines: list[str]) -> Iterator[tuple[str, int]]:
    """Yields the lines that are not blank, with their frames; raises UserError at the first that is not a row."""
    fields = next(csv.reader([header]), [])
    if header and "frames" not in fields:
        raise _damage(path, 1, header, "does not name the columns of such a file")
    for number, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        try:
            values = next(csv.reader([line.replace("\0", "\ufffd")]))
            if len(values) != len(fields):
                raise ValueError(f"has {len(values)} values for {len(fields)} columns")
            row = dict(zip(fields, values))
            for field in fields:
                if field not in _TEXT:
                    _number(field, row[field])
            yield line, int(row["frames"])
        except (ValueError, csv.Error) as error:
            raise _damage(path, number, line, str(error)) from None


def _number(field: str, value: str) -> None:
    """Raises ValueError if the value is not a number; only `frames` may not be missing."""
    try:
        (int if field == "frames" else float)(value or "nan")
    except ValueError:
        raise ValueError(f"has {value[:40]!r} as {field}") from None


def _damage(path: pathlib.Path, number: int, line: str, problem: str) -> UserError:
    return UserError(
        f"{path}, line {number} ({line.strip()[:40]!r}), {problem}. Mend or remove that line, or move the file away: "
        "training needs only the checkpoints, and goes on in a new file."
    )

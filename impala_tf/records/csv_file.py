"""A CSV file that grows with a run and that a resumed run goes on with."""

from __future__ import annotations

import csv
import pathlib
from typing import Any


class CSVFile:
    """Rows with a column `frames`, in order of time. What is written is in the file when the call returns."""

    def __init__(self, path: pathlib.Path, keep_up_to: int):
        """Opens the file; rows past the frame count `keep_up_to` describe training that was lost, and are dropped."""
        self._fields: list[str] | None = None
        if path.exists():
            with open(path, newline="") as file:
                reader = csv.DictReader(file)
                rows = [row for row in reader if (row["frames"] or "").isdigit() and int(row["frames"]) <= keep_up_to]
            partial = path.with_name(f".{path.name}")
            self._open(partial)
            self.write(*rows)
            self.close()
            partial.replace(path)
        self._open(path)

    def _open(self, path: pathlib.Path) -> None:
        self._file = open(path, "a", newline="")  # noqa: SIM115 - open until close()

    def write(self, *rows: dict[str, Any]) -> None:
        """Appends rows; the first one ever names the columns."""
        for row in rows:
            if self._fields is None:
                self._fields = list(row)
                csv.writer(self._file).writerow(self._fields)
            csv.DictWriter(self._file, self._fields, extrasaction="ignore").writerow(row)
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read(path: pathlib.Path) -> Any:
    """The file's rows as a pandas.DataFrame; None where there is no file yet, or no row in it."""
    import pandas as pd  # Takes a second; only needed at the end of a run.

    if not path.exists() or not path.stat().st_size:
        return None
    rows = pd.read_csv(path)
    return rows if len(rows) else None

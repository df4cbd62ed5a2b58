"""CSV files that grow with a run; a resumed run appends to them."""

from __future__ import annotations

import csv
import pathlib
from typing import Any


class CSVFile:
    """Appends rows, which have a column `frames`, to a CSV file; every write is flushed before it returns."""

    def __init__(self, path: pathlib.Path, keep_up_to: int):
        """Opens the file and drops rows past the frame count `keep_up_to`: they describe training that was lost."""
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
        """Appends rows; the keys of the file's first row become its columns."""
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
    """Returns the file's rows as a pandas.DataFrame, or None if the file is missing or has no rows."""
    import pandas as pd  # Takes a second to import; only needed at the end of a run.

    if not path.exists() or not path.stat().st_size:
        return None
    rows = pd.read_csv(path)
    return rows if len(rows) else None

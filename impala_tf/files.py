"""Atomic writes: a reader finds the old file or the new one, never half of it."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a temporary path in the same folder, which replaces `path` when the block ends.

    If the block raises, the temporary file is removed and `path` stays as it was.
    """
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes `value` as JSON, atomically.

    Raises:
      TypeError: `value` cannot be written as JSON.
      OSError: the file cannot be written.
    """
    with replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=1) + "\n")

"""Folders of runs, without training."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from impala_tf import config as config_lib
from impala_tf.records.csv_file import CSVFile
from impala_tf.records.logdir import LogDir


def write(
    folder: pathlib.Path, returns: Sequence[float], frames: Sequence[int] = (), env: str = "catch", **settings: Any
) -> LogDir:
    """Writes config.json and progress.csv as a run does, with a row each 1000 frames and 3600 seconds by default."""
    folder.mkdir(parents=True)
    logdir = LogDir(str(folder))
    logdir.prepare(config_lib.from_values({"env": env, "logdir": str(folder), **settings}))
    log = CSVFile(logdir.progress, 0)
    for number, (count, value) in enumerate(zip(frames or range(1000, 10**9, 1000), returns), start=1):
        log.write({"seconds": 3600.0 * number, "frames": count, "mean_return_100": value, "entropy": 0.5})
    log.close()
    return logdir

"""Shows the package's log on the console of a command, as plain lines."""

from __future__ import annotations

import logging
import sys
from typing import TextIO


def show(stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Writes the package's log lines from `level` on to `stream` (standard output by default), the message only.

    Lines that cannot be written are dropped: a run continues when the reader of its output is gone.
    """
    logging.raiseExceptions = False
    logger = logging.getLogger("impala_tf")
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers = [handler]
    logger.setLevel(level)
    logger.propagate = False  # Otherwise absl's handler on the root logger shows every line again.

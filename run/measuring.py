"""Code shared by the commands that measure: flags, checks, the JSON file. Does not import TensorFlow."""

from __future__ import annotations

import json
import logging
import pathlib
import sys
from collections.abc import Callable
from typing import Any

from absl import flags

from impala_tf import flags as impala_flags
from impala_tf.benchmark.setup import Setup, resolve
from impala_tf.errors import UserError

from . import command, setups

GROUP = "The measurement"

_LOGGER = logging.getLogger("impala_tf.run")

Measure = Callable[[Setup], tuple[dict[str, Any], str]]
"""Measures a run; returns the result, JSON-able, and its text form."""


def run(measure: Measure, output: str, about: str | None) -> None:
    """Parses the flags, measures, writes the JSON file, prints the text, and exits with the command's status.

    Args:
      measure: does the measurement.
      output: default value of --output.
      about: what the command does, for --help.
    """
    impala_flags.define_own(
        GROUP, "seconds", 10.0, "Seconds to measure each part; the whole system runs longer.", at_least=0.1
    )
    impala_flags.define_own(GROUP, "output", output, "JSON file to write the result to.", path=True)
    setups.define()
    impala_flags.define()
    command.run(lambda: _measure(measure), about)


def _measure(measure: Measure) -> int:
    output = pathlib.Path(flags.FLAGS.output)
    setup = resolve(impala_flags.to_config())
    existed = output.exists()
    try:
        output.touch()
    except OSError as error:
        raise UserError(f"--output={output} cannot be written: {error.strerror}.") from None
    if not existed:
        output.unlink()
    try:
        result, text = measure(setup)
    except KeyboardInterrupt:
        _LOGGER.info("interrupted; no result was written")
        return 130
    argv = [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]
    output.write_text(json.dumps({"command": argv, **result}, indent=1) + "\n")
    _LOGGER.info("\n%s\n\n%s has the full result.", text, output)
    return 0

"""What the commands that measure have in common: flags, checks, the JSON file. Imports no TensorFlow."""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any

from absl import flags

from impala_tf import flags as impala_flags
from impala_tf.config import Config
from impala_tf.errors import UserError
from impala_tf import topology as layout

flags.DEFINE_float("seconds", 10.0, "Seconds for which each part is measured; the whole system runs longer.")
flags.DEFINE_string("output", "benchmark.json", "JSON file to write.")

Measure = Callable[[Config, Callable[[str], None]], tuple[dict[str, Any], str]]
"""Takes the settings and what prints a line; returns the result and the same as text."""


def run(argv: list[str], measure: Measure) -> int:
    """Checks the flags, measures, writes the JSON file and prints the text; returns the exit status."""
    output = pathlib.Path(flags.FLAGS.output)
    try:
        if len(argv) > 1:
            raise UserError(f"Unknown argument {argv[1]!r}: settings are given as --name=value (see --help).")
        if flags.FLAGS.seconds <= 0:
            raise UserError("--seconds must be more than 0.")
        config = impala_flags.to_config()
        layout.check(config)
        existed = output.exists()
        try:
            output.touch()
        except OSError as error:
            raise UserError(f"--output={output} cannot be written: {error.strerror}.") from None
        if not existed:
            output.unlink()
        result, text = measure(config, lambda line: print(line, flush=True))
        command = [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]
        output.write_text(json.dumps({"command": command, **result}, indent=1) + "\n")
    except UserError as error:
        print(f"ERROR: {error}", file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt:
        print("interrupted; there is no result", flush=True)
        return 130
    print(f"\n{text}\n\n{output} has all of it.")
    return 0

"""Measures the parts and the whole: `impala-benchmark --env=atari/breakout`, or `python -m run.benchmark`.

Takes the flags of `impala-train` that shape the work. Run it on a quiet machine: it compares what each part costs alone
with what all of them cost together.
"""

from __future__ import annotations

import json
import pathlib
import sys

from absl import app, flags, logging

from impala_tf import environments
from impala_tf import flags as impala_flags
from impala_tf.errors import UserError
from run.train import parse_flags

flags.DEFINE_float("seconds", 10.0, "Seconds of each measurement of a part; the whole system takes three times that.")
flags.DEFINE_integer("repeats", 3, "Rounds; the minimum, median and maximum over them are reported.")
flags.DEFINE_string("output", "benchmark.json", "JSON file to write.")


def _main(argv: list[str]) -> int:
    try:
        if len(argv) > 1:
            raise UserError(f"Unknown argument {argv[1]!r}: settings are given as --name=value (see --help).")
        if flags.FLAGS.seconds <= 0 or flags.FLAGS.repeats < 1:
            raise UserError("--seconds must be more than 0, and --repeats at least 1.")
        config = impala_flags.to_config()
        environments.spec(**config.environment_options())
        output = pathlib.Path(flags.FLAGS.output)
        try:
            output.touch()
        except OSError as error:
            raise UserError(f"--output={output} cannot be written: {error.strerror}.") from None
        from impala_tf.benchmark import report

        result = report.measure(config, flags.FLAGS.seconds, flags.FLAGS.repeats, lambda s: print(s, flush=True))
        output.write_text(json.dumps({"command": sys.argv, **result}, indent=1) + "\n")
        print(f"\n{report.table(result)}\n\n{output} has all of it.")
        return 0
    except UserError as error:
        print(f"ERROR: {error}", file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt:
        print("interrupted; there is no result", flush=True)
        return 130


def main() -> None:
    """Entry point of `impala-benchmark`."""
    impala_flags.define()
    logging.set_verbosity(logging.WARNING)
    app.run(_main, flags_parser=parse_flags)


if __name__ == "__main__":
    main()

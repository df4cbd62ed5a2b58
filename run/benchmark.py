"""Measures the parts and the whole: `impala-benchmark --env=atari/breakout`, or `python -m run.benchmark`.

Takes the flags of `impala-train` that shape the work. Run it on a quiet machine: it compares what each part costs alone
with what all of them cost together.
"""

from __future__ import annotations

from absl import app, flags, logging

from impala_tf import flags as impala_flags
from impala_tf.benchmark import command
from run.train import parse_flags

flags.DEFINE_integer("repeats", 3, "Rounds; the minimum, median and maximum over them are reported.", lower_bound=1)


def _measure(config, say):
    from impala_tf.benchmark import report

    result = report.measure(config, flags.FLAGS.seconds, flags.FLAGS.repeats, say)
    return result, report.table(result)


def main() -> None:
    """Entry point of `impala-benchmark`."""
    impala_flags.define()
    logging.set_verbosity(logging.WARNING)
    app.run(lambda argv: command.run(argv, _measure), flags_parser=parse_flags)


if __name__ == "__main__":
    main()

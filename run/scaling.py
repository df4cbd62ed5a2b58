"""Measures how the system grows: `impala-scaling --env=atari/breakout`, or `python -m run.scaling`.

Actors on this machine (1, 2, 4, 8); up to 256 simulated actors that replay recorded unrolls at a set rate; memory
against the size of the queue. Takes the flags of `impala-train` that shape the work. docs/performance.md has what it
says here and what follows from it.
"""

from __future__ import annotations

from absl import app, flags, logging

from impala_tf import flags as impala_flags
from impala_tf.benchmark import command
from run.train import parse_flags


def _measure(config, say):
    from impala_tf.benchmark import scaling

    result = scaling.measure(config, flags.FLAGS.seconds, say)
    return result, scaling.table(result)


def main() -> None:
    """Entry point of `impala-scaling`."""
    impala_flags.define()
    flags.FLAGS.set_default("output", "scaling.json")
    logging.set_verbosity(logging.WARNING)
    app.run(lambda argv: command.run(argv, _measure), flags_parser=parse_flags)


if __name__ == "__main__":
    main()

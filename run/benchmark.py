"""Compares the parts with the whole: `impala-benchmark --env=atari/breakout`, or `python -m run.benchmark`.

With --table, it compares the rows of the paper's Table 1 instead: A3C, batched A2C and IMPALA, one after the other in
each round, with the same numbers of actors and environments. Takes the flags of `impala-train`. Run it on an otherwise
idle machine.
"""

from __future__ import annotations

from absl import flags

from impala_tf import flags as impala_flags

from . import measuring


def _measure(setup):
    if flags.FLAGS.table:
        from impala_tf.benchmark import table_1 as chosen
    else:
        from impala_tf.benchmark import report as chosen  # type: ignore[no-redef]
    result = chosen.measure(setup, flags.FLAGS.seconds, flags.FLAGS.repeats)
    return result, chosen.table(result)


def main() -> None:
    """Entry point of `impala-benchmark`."""
    impala_flags.define_own(
        measuring.GROUP, "repeats", 3, "Rounds; reports the minimum, median and maximum over them.", at_least=1
    )
    impala_flags.define_own(
        measuring.GROUP, "table", False, "Compare the architectures, not the parts of one; about 10 rounds are enough."
    )
    measuring.run(_measure, "benchmark.json", __doc__)


if __name__ == "__main__":
    main()

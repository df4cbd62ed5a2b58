"""Compares the parts with the whole: `impala-benchmark --env=atari/breakout`, or `python -m run.benchmark`.

Takes the flags of `impala-train`. Run it on an otherwise idle machine, because it compares the cost of each part alone
with the throughput of the whole system.
"""

from __future__ import annotations

from absl import flags

from impala_tf import flags as impala_flags

from . import measuring


def _measure(setup):
    from impala_tf.benchmark import report

    result = report.measure(setup, flags.FLAGS.seconds, flags.FLAGS.repeats)
    return result, report.table(result)


def main() -> None:
    """Entry point of `impala-benchmark`."""
    impala_flags.define_own(
        measuring.GROUP, "repeats", 3, "Rounds; reports the minimum, median and maximum over them.", at_least=1
    )
    measuring.run(_measure, "benchmark.json", __doc__)


if __name__ == "__main__":
    main()

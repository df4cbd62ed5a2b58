"""Compares the parts with the whole: `impala-benchmark --env=atari/breakout`, or `python -m run.benchmark`.

Takes the flags of `impala-train`. Run it on an otherwise idle machine, because it compares the cost of each part alone
with the throughput of the whole system.
"""

from __future__ import annotations

from absl import flags

from . import measuring


def _measure(setup):
    from impala_tf.benchmark import report

    result = report.measure(setup, flags.FLAGS.seconds, flags.FLAGS.repeats)
    return result, report.table(result)


def main() -> None:
    """Entry point of `impala-benchmark`."""
    flags.DEFINE_integer(
        "repeats", 3, "Number of rounds; reports the minimum, median and maximum over them.", lower_bound=1
    )
    measuring.run(_measure, "benchmark.json")


if __name__ == "__main__":
    main()

"""Measures the parts and the whole: `impala-benchmark --env=atari/breakout`, or `python -m run.benchmark`.

Takes the flags of `impala-train` that shape the work. Run it on a quiet machine: it compares what each part costs alone
with what all of them cost together.
"""

from __future__ import annotations

from absl import flags

from run import measuring


def _measure(setup):
    from impala_tf.benchmark import report

    result = report.measure(setup, flags.FLAGS.seconds, flags.FLAGS.repeats)
    return result, report.table(result)


def main() -> None:
    """Entry point of `impala-benchmark`."""
    flags.DEFINE_integer("repeats", 3, "Rounds; the minimum, median and maximum over them are reported.", lower_bound=1)
    measuring.run(_measure, "benchmark.json")


if __name__ == "__main__":
    main()

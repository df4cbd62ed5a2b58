"""Measures how the system scales: `impala-scaling --env=atari/breakout`, or `python -m run.scaling`.

Measures 1, 2, 4 and 8 actors on this machine, up to 256 simulated actors that replay recorded unrolls at a set rate,
and memory against queue size. Takes the flags of `impala-train`. docs/performance.md discusses results.
"""

from __future__ import annotations

from absl import flags

from . import measuring


def _measure(setup):
    from impala_tf.benchmark import scaling

    result = scaling.measure(setup, flags.FLAGS.seconds)
    return result, scaling.table(result)


def main() -> None:
    """Entry point of `impala-scaling`."""
    measuring.run(_measure, "scaling.json", __doc__)


if __name__ == "__main__":
    main()

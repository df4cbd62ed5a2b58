"""Measures how the system grows: `impala-scaling --env=atari/breakout`, or `python -m run.scaling`.

Actors on this machine (1, 2, 4, 8); up to 256 simulated actors that replay recorded unrolls at a set rate; memory
against the size of the queue. Takes the flags of `impala-train` that shape the work. docs/performance.md has the
results here and what follows from them.
"""

from __future__ import annotations

from absl import flags

from run import measuring


def _measure(setup):
    from impala_tf.benchmark import scaling

    result = scaling.measure(setup, flags.FLAGS.seconds)
    return result, scaling.table(result)


def main() -> None:
    """Entry point of `impala-scaling`."""
    measuring.run(_measure, "scaling.json")


if __name__ == "__main__":
    main()

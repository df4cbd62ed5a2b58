"""Measures how the system scales: `impala-scaling --env=atari/breakout`, or `python -m run.scaling`.

Measures 1, 2, 4 and 8 actors on this machine, up to 256 simulated actors that replay recorded unrolls at a set rate,
and memory against queue size. With --parameters, measures instead what unrolls, updates and parameters cost each
process, also with a relay; `python -m run.projection` computes from that what a cluster needs. With --updates, measures
instead what an update costs each of 1, 2 and 3 learners. Takes the flags of `impala-train`. docs/scaling.md discusses
results.
"""

from __future__ import annotations

from absl import flags

from impala_tf import flags as impala_flags

from . import measuring


def _measure(setup):
    from impala_tf.benchmark import learners, parameters, scaling

    if flags.FLAGS.updates:
        result = learners.measure(setup, flags.FLAGS.seconds)
        return result, learners.table(result)
    if flags.FLAGS.parameters:
        result = parameters.measure(setup, flags.FLAGS.seconds)
        return result, parameters.table(result)

    result = scaling.measure(setup, flags.FLAGS.seconds)
    return result, scaling.table(result)


def main() -> None:
    """Entry point of `impala-scaling`."""
    impala_flags.define_own(
        measuring.GROUP, "parameters", False, "Measure CPU times per unroll, update, publication and pull instead."
    )
    impala_flags.define_own(
        measuring.GROUP, "updates", False, "Measure the CPU time of an update with 1, 2 and 3 learners instead."
    )
    measuring.run(_measure, "scaling.json", __doc__)


if __name__ == "__main__":
    main()

"""Computes what a number of frames per second needs from the costs that `impala-scaling --parameters` has measured.

  python -m run.projection --costs=docs/benchmarks/parameters_atari_shallow.json --frames_per_second=250000

Prints one column for each number of learners without relays and one with them. Extrapolates far beyond what was
measured; docs/scaling.md discusses results.
"""

from __future__ import annotations

import json
import logging
import pathlib
from typing import Any

from absl import flags

from impala_tf import flags as impala_flags
from impala_tf.benchmark import projection
from impala_tf.errors import UserError

from . import command

_GROUP = "The projection"
_LOGGER = logging.getLogger("impala_tf.run")


def _main() -> int:
    given = flags.FLAGS
    try:
        costs = json.loads(pathlib.Path(given.costs).read_text())["constants"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"--costs={given.costs}: not a file that impala-scaling --parameters has written.") from None
    try:
        learners = [int(number) for number in given.num_learners.split(",")]
    except ValueError:
        learners = [0]
    if min(learners) < 1:
        raise UserError(f"--num_learners={given.num_learners}: must be whole numbers above 0, separated by commas.")
    base = projection.Cluster(
        frames_per_second=given.frames_per_second,
        learners=1,
        batch_size=given.batch_size or costs["batch_size"],
        envs_per_actor=given.envs_per_actor or costs["envs_per_actor"],
        cores_per_machine=given.cores_per_machine,
        relay_rate=given.relay_rate,
        all_reduce_ms_per_mb=given.all_reduce_ms_per_mb,
    )
    rows = projection.compare(costs, base, learners)
    _LOGGER.info(projection.table(rows))
    if given.output:
        try:
            pathlib.Path(given.output).write_text(json.dumps({"costs": given.costs, "rows": rows}, indent=1) + "\n")
        except OSError as error:
            raise UserError(f"--output={given.output} cannot be written: {error.strerror}.") from None
    return 0


def main() -> None:
    """Entry point of `python -m run.projection`."""

    def define(name: str, default: Any, about: str, **checks: Any) -> None:
        impala_flags.define_own(_GROUP, name, default, about, **checks)

    define("costs", "", "JSON file of `impala-scaling --parameters`.", path=True)
    define("frames_per_second", 250_000.0, "Environment frames per second of all actors.", at_least=1)
    define("num_learners", "1,2,4,8", "Numbers of learners, separated by commas.")
    define("batch_size", 32, "Unrolls per update of each learner; 0: as measured.", at_least=0)
    define("envs_per_actor", 0, "Environments per actor; 0: as measured.", at_least=0)
    define("cores_per_machine", 64, "Cores of a machine of actors, each of which has a relay.", at_least=1)
    define("relay_rate", 10.0, "Publications that a relay passes on per second, at most.", at_least=1)
    define("all_reduce_ms_per_mb", 2.0, "CPU milliseconds per update and MB of gradients at each learner.", at_least=0)
    define("output", "", "JSON file to write the result to; empty: none.", path=True)
    command.run(_main, __doc__)


if __name__ == "__main__":
    main()

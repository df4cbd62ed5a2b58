"""Trains the runs of a sweep on this machine, several at once, or resumes the sweep in a folder.

  impala-sweep run --setup=dmlab_shallow --output=runs/sweep --at_once=4
  impala-sweep run --setup=catch --output=runs/catch_sweep --values=rates.csv

Other flags are those of impala-train, for all runs. Runs that have finished are not repeated, others resume; rows
appended to the values, or more --combinations, extend the sweep. Ends with a table, sweep.csv and sweep.png.
"""

from __future__ import annotations

import functools
import logging
import pathlib
import signal
import sys

from absl import flags

from impala_tf import config as config_lib
from impala_tf import flags as impala_flags
from impala_tf import programs, topology
from impala_tf.environments import task_set
from impala_tf.errors import UserError
from impala_tf.experiments import runs, sweep, sweep_picture, values
from impala_tf.experiments.sweep_runs import Sweep, named
from impala_tf.experiments.training_runs import FAILED
from impala_tf.machine import cores
from impala_tf.processes.signals import stop_on_signal
from impala_tf.records.logdir import OF_ONE_PROCESS
from impala_tf.transport import tables

from . import command, near, setups

_LOGGER = logging.getLogger("impala_tf.run")


def _main() -> int:
    given, config = flags.FLAGS, impala_flags.to_config()
    if not given.output:
        raise UserError("--output is needed: the folder of the sweep, for example --output=runs/sweep.")
    runs.check_alone(config, "impala-sweep run")
    if given["values"].value:
        names = [name for name in config_lib.to_values(config) if name not in OF_ONE_PROCESS]
        combinations = values.read(pathlib.Path(given["values"].value), names, near.matches)
    else:
        combinations = sweep.draw(given.sweep_seed, given.combinations)
    at_once = min(given.at_once or max(1, cores() // 2), len(combinations))
    config = runs.shared(config, at_once)
    folder = pathlib.Path(given.output)
    whole = Sweep(folder, config, combinations)
    if "env" not in combinations[0]:
        task_set.check(task_set.resolve(config.environment))
    for each in whole.combinations:
        with named(each.number):
            tasks = task_set.resolve(each.config.environment)
            if "env" in each.values:
                task_set.check(tasks)
            topology.resolve(each.config, len(tasks.names), topology.alone("localhost:0"))
            tables.check(each.config)
    lock = runs.lock(folder)
    whole.prepare()
    stop, received = stop_on_signal()
    _LOGGER.info("%d combinations, %d at once, in %s", len(combinations), at_once, folder)
    whole.run(at_once, stop, config.run.log_interval)
    lock.close()
    _LOGGER.info("\n%s\n", whole.table())
    _LOGGER.info("  rows     %s", whole.csv)
    try:
        if sweep_picture.draw(whole.combinations, folder / "sweep.png"):
            _LOGGER.info("  picture  %s", folder / "sweep.png")
    except OSError as error:
        raise UserError(f"{folder / 'sweep.png'} cannot be written: {error.strerror}.") from None
    if received:
        again = programs.line("impala-sweep", "run", *sys.argv[1:])
        _LOGGER.info("Ended early by %s. To resume: %s", signal.Signals(received[0]).name, again)
        return 128 + received[0]
    return 1 if any(each.state == FAILED for each in whole.combinations) else 0


def main() -> None:
    """Runs `impala-sweep run`."""
    define = functools.partial(impala_flags.define_own, "The sweep")
    define("output", "", "Folder of the sweep. The same command again resumes it.", path=True)
    define("sweep_seed", 1, "Seed for sampling the combinations; --seed is that of the runs.", at_least=0)
    define("combinations", sweep.COMBINATIONS, "Combinations, from the ranges of Table D.1.", at_least=1)
    define(
        "values",
        "",
        "CSV file with the values of the runs instead: a column for each setting, a row for each run.",
        path=True,
    )
    define(
        "at_once", 0, "Runs that train at the same time and share the cores; 0: half the number of cores.", at_least=0
    )
    setups.define()
    impala_flags.define()
    command.run(_main, __doc__)

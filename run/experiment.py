"""Runs the paper's experiments, on one machine or at the paper's scale, and shows what has come of them.

  impala-experiment list            every figure and table, and what of it is there
  impala-experiment list table_2    the command line of each run
  impala-experiment run table_2     trains what is missing; the same command again resumes
  impala-experiment show table_2    draws it, and says which findings of the paper it confirms

With --scale=paper, run and list take the paper's runs instead: hundreds of them, with up to ten billion frames each.
On a Ray cluster, --cluster=ray --address=auto --parallel=8 has eight of them train there at the same time.
"""

from __future__ import annotations

import fnmatch
import functools
import itertools
import logging
import os
import pathlib
import signal
import sys
from collections.abc import Sequence

from absl import flags

from impala_tf import config as config_lib
from impala_tf import flags as impala_flags
from impala_tf import programs, topology
from impala_tf.config import Config
from impala_tf.environments import task_set
from impala_tf.errors import UserError
from impala_tf.experiments import catalogue, picture, report, results, runs, training_runs
from impala_tf.experiments.catalogue.grid import SCALES, Experiment, Grid, Planned
from impala_tf.experiments.training_runs import FAILED, FINISHED, TrainingRun
from impala_tf.files import replacing
from impala_tf.machine import cores
from impala_tf.processes.signals import stop_on_signal
from impala_tf.transport import tables

from . import command, setups

_LOGGER = logging.getLogger("impala_tf.run")
_USAGE = "impala-experiment list [NAME], impala-experiment run NAME or impala-experiment show NAME"
_SAY_SECONDS = 30.0


def _config(grid: Grid, run: Planned, folder: pathlib.Path) -> Config:
    """The settings of a run, with its folder."""
    settings = {**(setups.settings(grid.setup) if grid.setup else {}), **run.settings, "logdir": str(folder)}
    if flags.FLAGS.cluster != "none" and run.agent.spread:
        settings |= {"cluster": flags.FLAGS.cluster, "address": flags.FLAGS.address}
    return config_lib.from_values(settings)


def _root() -> pathlib.Path:
    return pathlib.Path(flags.FLAGS.runs) / flags.FLAGS.scale


def _grid(experiment: Experiment) -> Grid:
    scale = flags.FLAGS.scale
    if scale not in experiment.grids:
        but = ", but at " + " and ".join(f"--scale={other}" for other in experiment.grids) if experiment.grids else ""
        otherwise = f" Made with other commands: {experiment.otherwise}." if experiment.otherwise else ""
        raise UserError(f"{experiment.name} has no runs at --scale={scale}{but}.{otherwise}")
    return experiment.grids[scale]


def _chosen(experiment: Experiment) -> list[Planned]:
    """The runs of an experiment that --only names."""
    grid = _grid(experiment)
    chosen = [run for run in grid.runs() if fnmatch.fnmatch(str(run.folder), flags.FLAGS.only)]
    if not chosen:
        example = next(grid.runs()).folder
        raise UserError(
            f"--only={flags.FLAGS.only} matches no run of {experiment.name}. They have names like {example}; * stands "
            "for anything."
        )
    return chosen


def _planned(experiment: Experiment) -> list[TrainingRun]:
    """The same, and how far they are."""
    grid, root, planned = _grid(experiment), _root(), []
    for run in _chosen(experiment):
        each = TrainingRun(str(run.folder), _config(grid, run, root / run.folder))
        each.look(f"--runs={flags.FLAGS.runs} holds runs", "Give another --runs, or move that run away.")
        planned.append(each)
    return planned


def _check(chosen: Sequence[TrainingRun]) -> None:
    """Finds out what would keep a run from being started, or from being started where it should be."""
    spread = any(each.config.launch.cluster == "ray" for each in chosen)
    if spread and not (flags.FLAGS.address or os.environ.get("RAY_ADDRESS")):
        raise UserError(
            "--cluster=ray needs --address, or RAY_ADDRESS: without it, each run would start a cluster of its own on "
            "this machine."
        )
    numbers: dict[str, int] = {}
    for each in chosen:
        env = each.config.environment.env
        if env not in numbers:
            tasks = task_set.resolve(each.config.environment)
            task_set.check(tasks)
            numbers[env] = len(tasks.names)
        topology.resolve(each.config, numbers[env], topology.alone("localhost:0"))
        tables.check(each.config)


def _run(experiment: Experiment) -> int:
    chosen = _planned(experiment)
    _check(chosen)
    at_once = flags.FLAGS.parallel or max(1, cores() // _grid(experiment).cores)
    lock = runs.lock(_root(), "--runs")
    missing = sum(each.state != FINISHED for each in chosen)
    _LOGGER.info(
        "%s: %d of %d runs to train, up to %d at once, in %s", experiment.title, missing, len(chosen), at_once, _root()
    )
    stop, received = stop_on_signal()
    training_runs.train(chosen, at_once, stop, _SAY_SECONDS)
    lock.close()
    failed = sum(each.state == FAILED for each in chosen)
    if failed:
        _LOGGER.warning("%d of %d runs failed; the next start tries them again", failed, len(chosen))
    if received:
        again = programs.line("impala-experiment", *_given())
        _LOGGER.info("Ended early by %s. To resume: %s", signal.Signals(received[0]).name, again)
        return 128 + received[0]
    if not failed:
        _LOGGER.info("To see the result: %s", _line("show", experiment))
    return 1 if failed else 0


def _list(name: str) -> int:
    if not name:
        _LOGGER.info(report.overview(list(catalogue.ALL.values()), pathlib.Path(flags.FLAGS.runs)))
        return 0
    experiment = catalogue.find(name)
    _LOGGER.info(report.command_lines(_grid(experiment), _chosen(experiment), _root()))
    return 0


def _show(experiment: Experiment) -> int:
    grid = _grid(experiment)
    if not flags.FLAGS["only"].using_default_value:
        raise UserError("--only is for run and list: show needs all runs of an experiment, to compare them.")
    table = results.collect(grid, _root())
    if not len(table):
        raise UserError(
            f"None of {experiment.name}'s runs in {_root()} has been trained yet: {_line('run', experiment)}"
        )
    _LOGGER.info("%s\n\n%s\n", experiment.title, report.outcome(experiment, flags.FLAGS.scale, table))
    folder = pathlib.Path(flags.FLAGS.output) if flags.FLAGS.output else _root()
    rows, drawn = folder / f"{experiment.name}.csv", folder / f"{experiment.name}.png"
    results.write(table, rows)
    try:
        with replacing(drawn) as partial:
            picture.draw(experiment.title, grid, table).savefig(partial, format="png")
    except OSError as error:
        raise UserError(f"{drawn} cannot be written: {error.strerror}.") from None
    _LOGGER.info("  rows     %s\n  picture  %s", rows, drawn)
    return 0


_ARGUMENTS: list[str] = []


def _given() -> list[str]:
    return [*_ARGUMENTS, *sys.argv[1:]]


def _line(action: str, experiment: Experiment) -> str:
    """A command line with the flags that say which runs are meant."""
    where = [
        f"--{name}={flags.FLAGS[name].value}" for name in ("scale", "runs") if not flags.FLAGS[name].using_default_value
    ]
    return programs.line("impala-experiment", action, experiment.name, *where)


def _main(action: str, name: str) -> int:
    if action == "list":
        return _list(name)
    if action not in ("run", "show"):
        raise UserError(f"{f'There is no {action!r}' if action else 'Something is missing'}: {_USAGE}.")
    if not name:
        raise UserError(f"Which experiment? There are: {', '.join(catalogue.ALL)}.")
    experiment = catalogue.find(name)
    return _run(experiment) if action == "run" else _show(experiment)


def main() -> None:
    """Entry point of `impala-experiment`."""
    words = list(itertools.takewhile(lambda word: not word.startswith("-"), sys.argv[1:3]))
    del sys.argv[1 : 1 + len(words)]
    _ARGUMENTS[:] = words
    action, experiment = (*words, "", "")[:2]
    define = functools.partial(impala_flags.define_own, "The experiment")
    define("scale", "machine", "machine: small tasks, for two cores. paper: the paper's runs.", choices=SCALES)
    define("runs", "runs", "Folder of the runs; those of a scale are in the folder of its name below it.", path=True)
    only = "With run and list: only the runs whose folder, below that of the scale, matches: 'table_2/v_trace/*'."
    define("only", "*", only)
    define("output", "", "With show: folder of the table and the picture; empty: that of the scale's runs.", path=True)
    define("parallel", 0, "Runs that train at the same time; 0: as many as this machine has cores for.", at_least=0)
    for name in ("cluster", "address"):
        impala_flags.define_setting("The experiment", name)
    command.run(functools.partial(_main, action, experiment), __doc__, f"Usage: {_USAGE}.")


if __name__ == "__main__":
    main()

"""Trains a population (Appendix F), or resumes the one in a folder.

  impala-pbt --setup=dmlab30_deep --output=runs/paper/figure_5/impala_deep_pbt
  impala-pbt --setup=catch --output=runs/pbt --members=4 --at_once=2 \\
      --episodes_per_evaluation=2000 --burn_in_frames=0 --copy_margin=0.1

Every member is a run of impala-train with its own learning rate, RMSProp epsilon and entropy cost. After each
evaluation, it looks at one other member, copies that one's weights and values if it scores more than --copy_margin
better, and perturbs its values. Settings of the runs are flags as for impala-train; --total_frames is per member. Needs
Ray: the extra [ray].
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import pathlib
import signal
import sys

from absl import flags

from impala_tf import config as config_lib
from impala_tf import flags as impala_flags
from impala_tf import programs, topology
from impala_tf.config import Config
from impala_tf.environments import task_set
from impala_tf.errors import UserError
from impala_tf.experiments import runs, sweep, values
from impala_tf.experiments.population import fitness, picture, table
from impala_tf.experiments.population.population import Population
from impala_tf.experiments.population.rule import Rule
from impala_tf.machine import cores
from impala_tf.processes.signals import stop_on_signal
from impala_tf.transport import tables

from . import command, near, setups

_LOGGER = logging.getLogger("impala_tf.run")
_MARGIN = 0.05
_SAY_SECONDS = 10.0


def _population() -> tuple[Population, int]:
    """Returns the population that the flags describe, and how many members train at the same time on this machine.

    Raises:
      UserError: the flags do not describe one.
    """
    given, config = flags.FLAGS, impala_flags.to_config()
    if not given.output:
        raise UserError("--output is needed: the folder of the population, for example --output=runs/pbt.")
    runs.check_alone(config, "impala-pbt")
    if given["values"].value:
        initial = values.read(pathlib.Path(given["values"].value), config_lib.TUNABLE, near.matches)
        if given.members and given.members != len(initial):
            raise UserError(f"--members={given.members}, but --values={given['values'].value} has {len(initial)} rows.")
    else:
        initial = sweep.draw(config.run.seed, given.members or sweep.COMBINATIONS)
    if len(initial) < 2:
        raise UserError("A population needs at least two members.")
    _check_resources()
    at_once = len(initial)
    if not os.environ.get("RAY_ADDRESS"):
        at_once = min(given.at_once or max(1, cores() // 2), at_once)
        config = runs.shared(config, at_once)
    tasks = task_set.resolve(config.environment)
    task_set.check(tasks)
    topology.resolve(config, len(tasks.names), topology.alone("localhost:0"))
    tables.check(config)
    population = Population(
        pathlib.Path(given.output).absolute(),  # Members may have other working directories.
        config,
        tasks.names,
        initial,
        Rule(_margin(tasks.names), given.perturb_probability, given.perturb_factor, given.burn_in_frames),
        given.episodes_per_evaluation,
        config.run.seed,
    )
    return population, at_once


def _margin(tasks: tuple[str, ...]) -> float:
    """The margin of the flags; the paper's 5% means nothing where the fitness is no score."""
    given = flags.FLAGS["copy_margin"]
    if given.present:
        return given.value
    if fitness.kind(tasks) == "mean return":
        raise UserError(
            "--copy_margin is needed: the paper's 5% are of a human-normalized score, which these tasks do not have. "
            "Give it in units of return, for example 5% of the difference between a poor and a good one."
        )
    return _MARGIN


def _check_resources() -> None:
    given, on_cluster = flags.FLAGS, os.environ.get("RAY_ADDRESS")
    for name in ("at_once",) if on_cluster else ("member_cpus", "member_gpus"):
        if given[name].present:
            other = "--member_cpus and --member_gpus say how many" if on_cluster else "--at_once says how many"
            where = "with RAY_ADDRESS, on a cluster" if on_cluster else "without RAY_ADDRESS, on this machine"
            raise UserError(f"--{name} does nothing {where}: there {other} members train at the same time.")


def _check_ray() -> None:
    if not importlib.util.find_spec("ray") or not importlib.util.find_spec("pyarrow"):
        raise UserError("impala-pbt needs Ray and its Tune: pip install 'impala-tf[ray]' (here: pip install '.[ray]').")


def _main() -> int:
    population, at_once = _population()
    _check_ray()
    lock = runs.lock(population.folder)
    population.prepare()
    stop, received = stop_on_signal()
    config: Config = population.config
    members, kind = len(population.initial), fitness.kind(population.tasks)
    taking_turns = f", {at_once} at a time" if at_once < members else ""
    _LOGGER.info("a population of %d members%s in %s; fitness: %s", members, taking_turns, population.folder, kind)
    from impala_tf.experiments.population import on_ray  # Takes seconds, and needs the extra.

    resources = {"cpu": flags.FLAGS.member_cpus, "gpu": flags.FLAGS.member_gpus}
    say_every = max(_SAY_SECONDS, config.run.log_interval)  # A line is about the whole population.
    evolution = on_ray.run(population, stop, at_once, resources, say_every)
    lock.close()
    record = evolution.record
    if record.rows:
        _LOGGER.info("\n%s", table.text(population, record))
        drawn = population.folder / "population.png"
        try:
            picture.draw(population.csv, drawn, population.names, kind, members)
        except OSError as error:
            raise UserError(f"{drawn} cannot be written: {error.strerror}.") from None
        _LOGGER.info("\n  rows     %s\n  picture  %s", population.csv, drawn)
    if received:
        _LOGGER.info("Ended early by %s. To resume: %s", signal.Signals(received[0]).name, _again())
        return 128 + received[0]
    return 0


def _again() -> str:
    return programs.line("impala-pbt", *sys.argv[1:])


def main() -> None:
    """Entry point of `impala-pbt`."""
    define = functools.partial(impala_flags.define_own, "The population (Appendix F)")
    define("output", "", "Folder of the population. The same command again resumes it.", path=True)
    define("members", 0, "Members; 0: 24, or as many as --values has rows.", at_least=0)
    define(
        "values",
        "",
        "CSV file with the members' first values: a column for each setting under adaptation, which may be "
        f"{', '.join(config_lib.TUNABLE)}, and a row for each member. Without it, all three are drawn from Table D.1's "
        "ranges with --seed.",
        path=True,
    )
    define("episodes_per_evaluation", 5000, "Episodes of a member after which its fitness is computed.", at_least=1)
    define("burn_in_frames", Rule.burn_in_frames, "Environment frames of a member before it evolves.", at_least=0)
    define(
        "copy_margin",
        _MARGIN,
        "How much more the other member must score to be copied. A score is a fraction, 1 for a human: 0.05 is the "
        "paper's absolute 5%. For tasks without human scores, in units of return; there it must be given.",
        at_least=0,
    )
    define(
        "perturb_probability", Rule.probability, "Probability with which a value is perturbed.", at_least=0, at_most=1
    )
    define("perturb_factor", Rule.factor, "Perturbed values are multiplied by it or its inverse.", at_least=1)
    define(
        "at_once",
        0,
        "Members that train at the same time on this machine, whose cores they share; the others take turns. 0: half "
        "the number of cores.",
        at_least=0,
    )
    define("member_cpus", 1.0, "With RAY_ADDRESS, on a cluster: CPUs of a member.", at_least=0)
    define("member_gpus", 0.0, "With RAY_ADDRESS, on a cluster: GPUs of a member.", at_least=0)
    setups.define()
    impala_flags.define()
    command.run(_main, __doc__)


if __name__ == "__main__":
    main()

"""Trains an agent, or resumes the run in a folder.

  impala-train --env=atari/pong --logdir=runs/pong
  impala-train --setup=atari_deep --env=atari/breakout --logdir=runs/breakout
  impala-train --setup=cartpole --logdir=runs/cartpole

`python -m run.train` takes the same flags.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from impala_tf import extensions, programs, quiet, topology
from impala_tf import flags as impala_flags
from impala_tf.config import Config, LaunchConfig, from_values, settings
from impala_tf.environments import task_set
from impala_tf.environments.task_set import TaskSet
from impala_tf.errors import UserError, one_line
from impala_tf.processes import console, imports
from impala_tf.processes.signals import stop_on_signal
from impala_tf.records.logdir import LogDir
from impala_tf.topology import LearnerAddress, Topology
from impala_tf.transport import ports, tables

from . import command, setups

# Roles import TensorFlow and Reverb, which takes seconds, only after all settings have been checked.

_LOGGER = logging.getLogger("impala_tf.run")


def _resolve(config: Config, learners: Sequence[LearnerAddress]) -> tuple[TaskSet, Topology, LogDir]:
    """Resolves the settings and checks everything that can be checked before importing or starting anything slow.

    Args:
      config: the flags.
      learners: the learners' addresses; port 0: a free one, chosen when the learner's server starts.
    """
    tasks = _tasks(config)
    resolved = topology.resolve(config, len(tasks.names), learners, own_processes=tasks.own_processes)
    return tasks, resolved, _logdir(config)


def _tasks(config: Config) -> TaskSet:
    tasks = task_set.resolve(config.environment)
    task_set.check(tasks)
    extensions.check("torso", config.network.torso)
    extensions.check("correction", config.loss.correction)
    return tasks


def _logdir(config: Config) -> LogDir:
    """Returns the folder of the run, which can be used with these settings."""
    tables.check(config)
    logdir = LogDir(config.run.logdir)
    logdir.check(config)
    if config.launch.learner_id:
        return logdir  # Learner 0 uses the folder.
    logdir.lock().close()
    if not logdir.frames and (advice := setups.advice(config)):
        _LOGGER.info(advice)
    return logdir


def _by_hand(launch: LaunchConfig) -> list[LearnerAddress]:
    """Returns the addresses of the learners, of which this process runs one."""
    ports.check_free(launch.port)
    exchanges = launch.learners.split(",")
    for address in exchanges if launch.learners else ():
        ports.check_address(address.strip(), "learners")
    return [LearnerAddress(f"localhost:{launch.port}", exchange.strip()) for exchange in exchanges]


def _run_all(config: Config) -> int:
    """Runs learners and actors as processes on this machine."""
    from impala_tf.architectures import table
    from impala_tf.launch import local

    stop, received = stop_on_signal()
    tasks, resolved, logdir = _resolve(config, ports.on_this_machine(config.launch))
    if not _finished(config, logdir):
        program = table.program(config, tasks, resolved)
        local.run(program, logdir, stop, stall_timeout=config.launch.stall_timeout)
    return _conclude(config, received)


def _run_cluster(config: Config) -> int:
    """Runs learners and actors on a Ray cluster."""
    tasks, logdir = _tasks(config), _logdir(config)  # This machine's cores say nothing about the topology.
    received: list[int] = []
    if not _finished(config, logdir):
        from impala_tf.launch.ray import cluster

        with cluster.joined(config.launch.address):
            from impala_tf.launch.ray import training  # It imports Ray.

            stop, received = stop_on_signal()  # Not earlier: Ray installs handlers of its own.
            training.run(config, tasks, logdir, stop)
    return _conclude(config, received)


def _run_learner(config: Config) -> int:
    """Runs a learner alone or, without actor processes, learner and actor in turns in this process."""
    stop, received = stop_on_signal()
    launch = config.launch
    tasks, resolved, logdir = _resolve(config, _by_hand(launch))
    if not _finished(config, logdir):
        logdir.logs.mkdir(parents=True, exist_ok=True)
        quiet.native_stderr(
            logdir.logs / ("learner.log" if launch.num_learners == 1 else f"learner_{launch.learner_id}.log")
        )
        _LOGGER.info("importing TensorFlow and Reverb")
        from impala_tf.architectures import table

        with imports.quickly():
            from impala_tf.launch import in_turns

        if stop.is_set():
            pass  # During the imports; there is nothing to save.
        elif launch.role == "learner":
            learn, _ = table.by_hand(config)
            learn(config, tasks, resolved, stop, **({"rank": launch.learner_id} if launch.num_learners > 1 else {}))
        else:
            in_turns.run(config, tasks, resolved, stop)
    if launch.learner_id:  # Learner 0 says what the run has left.
        return 128 + received[0] if received else 0
    return _conclude(config, received)


def _begin_beside_learner(config: Config) -> None:
    """Prepares this process to be an actor or a relay, for a learner started elsewhere."""
    launch = config.launch
    if not launch.address:
        raise UserError(f"--role={launch.role} needs --address, the learner's host:port.")
    ports.check_address(launch.address)
    # It has nothing to save, so any signal may end it at once.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    quiet.native_stderr(os.devnull)
    console.show(sys.stderr)  # Not earlier: `native_stderr` replaces sys.stderr.


def _run_relay(config: Config) -> int:
    """Runs a relay, for a learner started elsewhere."""
    launch = config.launch
    ports.check_free(launch.port)
    _begin_beside_learner(config)
    from impala_tf.roles import relay

    def ready(address: str) -> None:
        print(f"ready: actors of this machine can pull parameters with --relay={address}", flush=True)

    relay.run(config, address=launch.address, port=launch.port, ready=ready)
    return 0


def _run_actor(config: Config) -> int:
    """Runs one actor, for a learner started elsewhere."""
    launch = config.launch
    if launch.relay:
        ports.check_address(launch.relay, "relay", "relay")
    _begin_beside_learner(config)
    tasks = _tasks(config)
    from impala_tf.architectures import table

    def resolve(told: dict[str, Any]) -> Topology:
        alone = topology.alone(launch.address)
        return topology.resolve(config, len(tasks.names), alone, own_processes=tasks.own_processes, told=told)

    sent = "gradients" if launch.architecture == "a3c" else "unrolls"
    ready = functools.partial(print, f"ready: the learner has taken the first {sent}", flush=True)
    _, act = table.by_hand(config)
    pulls = {"relay": launch.relay} if launch.relay else {}  # A3C has none.
    act(config, tasks, resolve, launch.actor_id, address=launch.address, ready=ready, **pulls)
    return 0


def _finished(config: Config, logdir: LogDir) -> bool:
    """Returns whether the run has reached its number of frames, and logs it."""
    finished = logdir.frames >= config.run.total_frames
    if finished:
        _LOGGER.info(
            "%s is finished already: %s of %s frames.",
            logdir.path,
            f"{logdir.frames:,}",
            f"{config.run.total_frames:,}",
        )
    return finished


def _conclude(config: Config, received: list[int]) -> int:
    """Draws the learning curve, writes the model card, and prints the run's files and how to continue."""
    from impala_tf.records import curve, model_card

    logdir = LogDir(config.run.logdir)
    title = f"{config.environment.env}, seed {config.run.seed}"
    drawn = _try("learning curve could not be drawn", lambda: curve.draw(logdir, title))
    written = _try("model card could not be written", lambda: model_card.write(logdir))
    say = _LOGGER.info
    say("")
    if received:
        name = signal.Signals(received[0]).name
        saved = f"the last checkpoint is at {logdir.frames:,} frames" if logdir.frames else "nothing was learned yet"
        say("Ended early by %s; %s.", name, saved)
    if logdir.progress.exists():
        say("  logs         %s (one row per %g s, for pandas)", logdir.progress, config.run.log_interval)
    if logdir.tasks.exists():
        say("  tasks        %s (one row per task)", logdir.tasks)
    if logdir.tensorboard.exists():
        say("  TensorBoard  tensorboard --logdir=%s", logdir.tensorboard)
    if logdir.frames:
        say("  checkpoints  %s", logdir.checkpoints)
    if logdir.exports.exists():
        say("  SavedModels  %s", logdir.exports)
    if logdir.evaluations.exists():
        say("  evaluations  %s (one row per SavedModel and task)", logdir.evaluations)
    if drawn:
        say("  curve        %s", logdir.curve)
    if written:
        say("  model card   %s", logdir.model_card)
    arguments = [argument for argument in sys.argv[1:] if received or not argument.startswith("--total_frames=")]
    again = programs.line("impala-train", *arguments)
    if received:
        say("To resume: %s", again)
    else:
        evaluate = programs.line("impala-evaluate", f"--logdir={logdir.path}", "--random_policy", "--video")
        say("To evaluate and film the agent: %s", evaluate)
        say("To train longer: %s --total_frames=%d", again, 2 * max(logdir.frames, config.run.total_frames))
    return 128 + received[0] if received else 0


def _try(problem: str, do: Callable[[], bool]) -> bool:
    """Calls `do` and returns its result; logs an exception in one line and returns False, as the run has been saved."""
    try:
        return do()
    except Exception as error:  # A full disk, a CSV file that somebody has edited, ...
        _LOGGER.warning("The %s (%s).", problem, one_line(error))
        return False


def _config() -> Config:
    """Returns the settings from the flags; without --env, those not given are those of the run in --logdir."""
    values = flags.FLAGS
    if values["env"].present or not values.logdir or values.role in ("actor", "relay"):
        return impala_flags.to_config()
    logdir = LogDir(values.logdir)
    given = {setting.name: values[setting.name].value for _, setting in settings() if values[setting.name].present}
    config = from_values(logdir.completed(given))
    if logdir.config.exists():
        _LOGGER.info("going on with the settings of %s: %s", logdir.path, config.environment.env)
    else:
        _LOGGER.info("%s holds no run yet: a new one of %s, as there is no --env", logdir.path, config.environment.env)
    return config


def _main() -> int:
    config = _config()
    if config.launch.role == "actor":
        return _run_actor(config)
    if config.launch.cluster == "ray":
        return _run_cluster(config)
    if config.launch.role == "relay":
        return _run_relay(config)
    if config.launch.role == "learner" or config.launch.num_actors == 0:
        return _run_learner(config)
    return _run_all(config)


def main() -> None:
    """Entry point of `impala-train`."""
    setups.define()
    impala_flags.define()
    command.run(_main, __doc__)


if __name__ == "__main__":
    main()

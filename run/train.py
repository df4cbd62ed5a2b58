"""Trains an agent: `impala-train --env=atari/pong --logdir=runs/pong`, or `python -m run.train` with the same flags."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable

from absl import app, flags, logging

from impala_tf import flags as impala_flags
from impala_tf import quiet
from impala_tf.config import Config
from impala_tf.errors import UserError, one_line
from impala_tf import topology as layout
from impala_tf.records.logdir import LogDir
from impala_tf.processes.signals import stop_on_signal
from impala_tf.transport import ports, tables as textproto

# TensorFlow and Reverb take seconds to import: each role imports what it needs once its settings are known to be good.


def _say(message: str) -> None:
    print(message, flush=True)


def _check(config: Config) -> LogDir:
    """Tells what is wrong before anything slow is imported or started, and returns the run's folder."""
    layout.check(config)
    textproto.read(config.data.reverb_config)
    ports.check_free(config.run.port)
    logdir = LogDir(config.run.logdir)
    logdir.check(config)
    logdir.lock().close()
    return logdir


def _run_all(config: Config) -> int:
    """Learner and actors on this machine."""
    from impala_tf.launch import local as supervisor

    logdir = _check(config)
    received: list[int] = []
    if not _finished(config, logdir):
        stop, received = stop_on_signal()
        supervisor.run(config, config.run.port or ports.free_port(), stop, _say)
    return _conclude(config, received)


def _finished(config: Config, logdir: LogDir) -> bool:
    """Whether the run has all of its frames already; says so."""
    finished = logdir.frames >= config.run.total_frames
    if finished:
        _say(f"{logdir.path} has its frames already: {logdir.frames:,} of {config.run.total_frames:,}.")
    return finished


def _run_learner(config: Config) -> int:
    """The learner alone, or, without actor processes, learner and actor in turns."""
    stop, received = stop_on_signal()
    logdir = _check(config)
    if _finished(config, logdir):
        return _conclude(config, received)
    quiet.native_stderr(logdir.logs / "learner.log")
    _say("importing TensorFlow and Reverb")
    from impala_tf.launch import in_turns as single_process
    from impala_tf.roles import learner as training

    if config.run.role == "learner":
        training.run(config, stop, _say)
    else:
        single_process.run(config, stop, _say)
    return _conclude(config, received)


def _run_actor(config: Config) -> int:
    """One actor of a learner elsewhere."""
    if not config.run.address:
        raise UserError("--role=actor needs --address, the learner's host:port.")
    ports.check_address(config.run.address)
    # An actor has nothing to save: any signal ends it, wherever it waits.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    quiet.native_stderr(os.devnull)
    from impala_tf.roles import actor as acting

    def say(message: str) -> None:
        print(message, file=sys.stderr, flush=True)

    acting.run(config, say, say, lambda: _say("ready: the first unrolls have been taken"))
    return 0


def _conclude(config: Config, received: list[int]) -> int:
    """Draws the learning curve, writes the model card and says what there is now and what to do next."""
    from impala_tf.records import curve, model_card

    logdir = LogDir(config.run.logdir)
    title = f"{config.environment.env}, seed {config.run.seed}"
    drawn = _could("learning curve could not be drawn", lambda: curve.draw(logdir, title))
    written = _could("model card could not be written", lambda: model_card.write(logdir))
    arguments = [argument for argument in sys.argv[1:] if received or not argument.startswith("--total_frames=")]
    command = shlex.join(["impala-train", *arguments])
    _say("")
    if received:
        _say(f"Ended early by {signal.Signals(received[0]).name}; the last checkpoint is at {logdir.frames:,} frames.")
    _say(f"  logs         {logdir.progress} (one row per {config.run.log_interval:g} s, for pandas)")
    if logdir.tasks.exists():
        _say(f"  tasks        {logdir.tasks} (one row per task)")
    _say(f"  TensorBoard  tensorboard --logdir={logdir.tensorboard}")
    _say(f"  checkpoints  {logdir.checkpoints}")
    if logdir.exports.exists():
        _say(f"  SavedModels  {logdir.exports}")
    if logdir.evaluations.exists():
        _say(f"  evaluations  {logdir.evaluations} (one row per SavedModel and task)")
    if drawn:
        _say(f"  curve        {logdir.curve}")
    if written:
        _say(f"  model card   {logdir.model_card}")
    if received:
        _say(f"To go on: {command}")
    else:
        _say(f"To train on: {command} --total_frames={2 * config.run.total_frames}")
    return 128 + received[0] if received else 0


def _could(otherwise: str, do: Callable[[], bool]) -> bool:
    """Whether `do` did something; what it fails of is said in a line, and is no failure of the run, which is saved."""
    try:
        return do()
    except Exception as error:  # A full disk, a CSV file that somebody has edited, ...
        _say(f"The {otherwise} ({one_line(error)}).")
        return False


def _main(argv: list[str]) -> int:
    try:
        if len(argv) > 1:
            raise UserError(f"Unknown argument {argv[1]!r}: settings are given as --name=value (see --help).")
        config = impala_flags.to_config()
        if config.run.role == "actor":
            return _run_actor(config)
        if config.run.role == "learner" or config.run.num_actors == 0:
            return _run_learner(config)
        return _run_all(config)
    except UserError as error:
        print(f"ERROR: {error}", file=sys.stderr, flush=True)
        return 2


def main() -> None:
    """Entry point of `impala-train`."""
    impala_flags.define()
    logging.set_verbosity(logging.WARNING)
    app.run(_main, flags_parser=parse_flags)


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the flags; a mistyped one is told in one line, with its near matches."""
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        print(f"ERROR: {error} (--help lists all settings)", file=sys.stderr, flush=True)
        sys.exit(2)


if __name__ == "__main__":
    main()

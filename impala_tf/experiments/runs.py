"""Starting a training run for an experiment: as `impala-train` with flags, in processes of its own."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from typing import Any

from impala_tf import config as config_lib
from impala_tf.config import Config
from impala_tf.errors import UserError
from impala_tf.machine import cores
from impala_tf.processes.command import Command
from impala_tf.records.logdir import LogDir

OUTPUT = "output.txt"
"""What a run has written to the terminal, in its folder's logs."""


def start(config: Config) -> Command:
    """Starts a run, or resumes it. Ask it to end, and it saves a checkpoint first.

    A program of its own needs nothing from this process, whichever processes and machines the settings ask for; it
    takes some seconds more to start than a fork of this one would.

    Args:
      config: settings of the run, its folder included.

    Raises:
      UserError: it cannot be started.
    """
    output = pathlib.Path(config.run.logdir, "logs", OUTPUT)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{output.parent} cannot be written: {error.strerror}.") from None
    return Command([sys.executable, "-m", "impala_tf.run.train", *flags(config)], output)


def flags(config: Config) -> list[str]:
    """Returns the flags that give these settings. The environment is always named: all settings are those given."""
    defaults, values = config_lib.to_values(Config()), config_lib.to_values(config)
    return [flag(name, value) for name, value in values.items() if name == "env" or value != defaults[name]]


def flag(name: str, value: Any) -> str:
    """Returns the flag that gives a setting a value."""
    return f"--{name}={str(value).lower() if isinstance(value, bool) else value}"


def shared(config: Config, at_once: int) -> Config:
    """Returns the settings with processes and threads for a share of this machine's cores, where they leave that open.

    Args:
      config: settings of a run.
      at_once: number of runs that share the cores.
    """
    share, launch = max(1, cores() // at_once), config.launch
    chosen: dict[str, Any] = {}
    if launch.num_actors < 0 and not config.unrolls_together:
        chosen["num_actors"] = share
    if not launch.learner_threads:
        chosen["learner_threads"] = share if config.unrolls_together else max(1, share // 2)
    return dataclasses.replace(config, launch=dataclasses.replace(launch, **chosen))


def lock(folder: pathlib.Path, flag: str = "--output") -> Any:
    """Makes the folder of several runs, and locks it for as long as the returned file is open.

    Args:
      folder: the folder.
      flag: which names it, for messages.

    Raises:
      UserError: it cannot be made, or another process holds the lock.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return LogDir(str(folder)).lock()
    except OSError as error:
        raise UserError(f"{flag}={folder} cannot be written: {error.strerror}.") from None
    except UserError:
        raise UserError(f"{flag}={folder} is in use: wait until that command has ended, or give another.") from None


def check_alone(config: Config, command: str) -> None:
    """Raises UserError if the settings name a single run's folder or role, which `command` chooses itself."""
    if config.run.logdir:
        raise UserError(f"--logdir: {command} gives every run a folder below --output.")
    if config.launch.role != "all":
        raise UserError(f"--role={config.launch.role}: {command} starts whole runs; remove it.")
    if config.launch.port:
        raise UserError(f"--port={config.launch.port}: {command} starts several runs, which cannot share a port.")

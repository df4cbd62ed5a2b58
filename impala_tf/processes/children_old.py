"""The processes of a run on one machine: what they do, how they fail and how they end."""

from __future__ import annotations

import ctypes
import faulthandler
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
from absl import logging

from impala_tf.config import Config
from impala_tf.environments.remote.mailbox import PolicyMailbox, WorkerMailbox
from impala_tf.errors import UserError
from impala_tf.processes import forking
from impala_tf.topology import make_environments
from impala_tf.processes.signals import stop_on_signal

_KILL_SECONDS = 5.0
_WARNING = "WARNING: "

Work = Callable[[Config, Callable[[], None]], None]
"""Takes the settings and what to call once the work has got going. It is pickled: a function of a module, or a
`functools.partial` of one."""


class Child:
    """A process of the run, its standard error kept in a file. It ends when this process ends.

    Attributes:
      name: for messages; also the process's name in `top` (at most 15 bytes of it).
      log: the file.
      started: `time.monotonic()` of the start.
    """

    def __init__(self, name: str, work: Work, config: Config, log: pathlib.Path):
        """Starts it.

        Args:
          name: of the process.
          work: `learn`, `act` or `step_environments`, but for what that takes besides.
          config: for `work`.
          log: to which it appends.

        Raises:
          UserError: no process can be started.
        """
        self.name, self.log, self.started = name, log, time.monotonic()
        self._log_start = log.stat().st_size if log.exists() else 0
        self._read_to, self._unfinished_line = self._log_start, b""
        self._ready = forking.context.RawValue(ctypes.c_bool)
        self._process = forking.context.Process(target=_main, args=(name, work, config, log, self._ready), daemon=True)
        # Ctrl-C is for the parent alone, which ends its children in order. The fork server inherits the mask.
        old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            multiprocessing.forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)
        try:
            self._process.start()
        except (OSError, EOFError) as error:
            raise UserError(f"The {name} could not be started ({type(error).__name__}: {error}).") from None

    @property
    def ready(self) -> bool:
        """Whether its work has got going."""
        return self._ready.value

    @property
    def status(self) -> int | None:
        """Its exit status, the negative number of the signal that ended it, or None while it runs."""
        return self._process.exitcode

    def ends_within(self, seconds: float) -> bool:
        """Waits for the process to end; False if it is still there after `seconds`."""
        self._process.join(seconds)
        return self.status is not None

    def terminate(self) -> None:
        """Asks it to end."""
        self._process.terminate()

    def kill(self) -> None:
        """Ends it, if it still runs, and waits for that, though not for ever: a full disk or a lost one can hold it."""
        self._process.kill()
        self._process.join(_KILL_SECONDS)

    @property
    def error(self) -> str:
        """The last thing that this process wrote to its log: its error if it failed."""
        with open(self.log, "rb") as file:
            file.seek(self._log_start)
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR: ")]
        return (errors or lines or ["it wrote nothing"])[-1].removeprefix("ERROR: ")

    def warnings(self) -> list[str]:
        """What it has written to its log for the user's eyes since the last call; see `_warn`."""
        try:
            if self.log.stat().st_size <= self._read_to:
                return []
            with open(self.log, "rb") as file:
                file.seek(self._read_to)
                new = file.read()
        except OSError:
            return []
        self._read_to += len(new)
        *lines, self._unfinished_line = (self._unfinished_line + new).split(b"\n")
        texts = [line.decode(errors="replace") for line in lines]
        return [text.removeprefix(_WARNING) for text in texts if text.startswith(_WARNING)]


def learn(
    config: Config, ready: Callable[[], None], mailbox: PolicyMailbox | None = None, silent: bool = False
) -> None:
    """The work of the learner's process. When the parent ends or asks for it, it writes a checkpoint and ends.

    With a mailbox, it acts in the environments of other processes, too. It prints its progress unless it is `silent`.
    """
    stop, _ = stop_on_signal(signal.SIG_IGN)
    _end_with_parent(signal.SIGTERM)
    from impala_tf.roles import learner as training

    ready()
    training.run(config, stop, lambda message: None if silent else print(message, flush=True), mailbox)


def act(config: Config, ready: Callable[[], None]) -> None:
    """The work of an actor's process. It has nothing to save: any signal ends it, wherever it waits."""
    _end_with_parent(signal.SIGKILL)
    from impala_tf.roles import actor as acting

    acting.run(config, _log, _warn, ready)


def step_environments(config: Config, ready: Callable[[], None], mailbox: WorkerMailbox, seed: list[int]) -> None:
    """The work of an environment process; as an actor, it has nothing to save.

    `seed` are numbers that no other process of the run has, or had before it was interrupted.
    """
    _end_with_parent(signal.SIGKILL)
    from impala_tf.environments.remote import worker

    environment = make_environments(config, int(np.random.SeedSequence(seed).generate_state(1)[0]) % 2**31, _warn)
    try:
        worker.run(environment, mailbox, _log, config.run.log_interval, ready)
    finally:
        environment.close()


def _log(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _warn(message: str) -> None:
    """For the log and, through `Child.warnings`, for the console."""
    _log(_WARNING + message)


def _main(name, work, config, log, ready) -> None:
    os.setsid()  # Out of reach of the terminal's signals.
    # Here alone, where environments may need processes of their own, which a daemon may not have. To the parent it
    # stays a daemon, which does not outlive it and for whose end it does not wait.
    multiprocessing.current_process().daemon = False
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 2)
    faulthandler.enable()
    _set_name(name)
    logging.set_verbosity(logging.WARNING)
    try:
        work(config, lambda: setattr(ready, "value", True))
    except UserError as error:
        print(f"ERROR: {error}", file=sys.stderr, flush=True)
        sys.exit(2)


def _set_name(name: str) -> None:
    """What `top` and `ps -o comm` show; Linux only."""
    try:
        pr_set_name = 15
        ctypes.CDLL(None).prctl(pr_set_name, name.encode()[:15])
    except (AttributeError, OSError):
        pass


def _end_with_parent(sig: signal.Signals) -> None:
    """Sends `sig` to this process when its parent, not the fork server, has ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), sig)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()

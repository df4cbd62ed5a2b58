"""One machine: starts the learner and the actors as processes and keeps them running. Imports no TensorFlow."""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, Any

from impala_tf import flags
from impala_tf.config import Config
from impala_tf.errors import UserError
from impala_tf.runtime.layout import num_actors
from impala_tf.runtime.logdir import LogDir
from impala_tf.runtime.parent import READY, supervised_environment

_SHUTDOWN_SECONDS = 8.0
_SHORTEST_BACKOFF_SECONDS = 0.5
_LONGEST_BACKOFF_SECONDS = 30.0
_HEALTHY_SECONDS = 60.0
_ENDING_SECONDS = 2.0


class _Child:
    """A process of the run: `impala-train` in one role, its standard error kept in a file."""

    def __init__(self, name: str, arguments: list[str], log: pathlib.Path, stdout: int | None):
        self.name, self.log, self.started = name, log, time.monotonic()
        self._log_start = log.stat().st_size if log.exists() else 0
        with open(log, "ab") as stderr:
            # A session of its own: Ctrl-C reaches the supervisor alone, which ends its children in order.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "run.train", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                env=supervised_environment(),
            )

    def ends_within(self, seconds: float) -> bool:
        """Waits for the process to end; False if it is still there after `seconds`."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    @property
    def error(self) -> str:
        """The last thing that this process wrote to its log: its error if it failed."""
        with open(self.log, "rb") as file:
            file.seek(self._log_start)
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR: ")]
        return (errors or lines or ["it wrote nothing"])[-1].removeprefix("ERROR: ")


class _ActorSlot:
    """One of the run's actors, over all of its processes."""

    def __init__(self, actor_id: int, start: Callable[[int], _Child]):
        self.actor_id, self._start = actor_id, start
        self.restarts, self._backoff, self._restart_at = 0, _SHORTEST_BACKOFF_SECONDS, 0.0
        self.launch()

    def launch(self) -> None:
        self.ready = threading.Event()
        self.child = self._start(self.actor_id)
        assert self.child.process.stdout is not None
        threading.Thread(target=self._read, args=(self.child.process.stdout, self.ready), daemon=True).start()

    @staticmethod
    def _read(stdout: IO[bytes], ready: threading.Event) -> None:
        for line in stdout:
            if line.strip() == READY.encode():
                ready.set()

    def schedule_restart(self) -> float:
        """Decides when the next process starts; returns the seconds until then."""
        if time.monotonic() - self.child.started > _HEALTHY_SECONDS:
            self._backoff = _SHORTEST_BACKOFF_SECONDS
        wait, self._backoff = self._backoff, min(2 * self._backoff, _LONGEST_BACKOFF_SECONDS)
        self._restart_at = time.monotonic() + wait
        self.restarts += 1
        return wait

    @property
    def due(self) -> bool:
        return bool(self._restart_at) and time.monotonic() >= self._restart_at

    def restart(self) -> None:
        self._restart_at = 0.0
        self.launch()

    @property
    def waiting(self) -> bool:
        return bool(self._restart_at)


def run(config: Config, port: int, stop: threading.Event, say: Callable[[str], None]) -> None:
    """Runs learner and actors until the learner ends or `stop` is set.

    An actor that dies is started again after 0.5, 1, 2, ... 30 s. An actor that fails before its first unroll, or a
    learner that fails, ends the run. No process outlives this call.

    Args:
      config: of the run.
      port: for the learner's server.
      stop: set to end the run early; the learner then writes a checkpoint.
      say: prints a line on the console.

    Raises:
      UserError: with the error of the process that ended the run.
    """
    logs = LogDir(config.run.logdir).logs

    def arguments(**changes: Any) -> list[str]:
        return flags.to_arguments(dataclasses.replace(config, run=dataclasses.replace(config.run, **changes)))

    def start_actor(actor_id: int) -> _Child:
        chosen = arguments(role="actor", address=f"localhost:{port}", actor_id=actor_id)
        return _Child(f"actor {actor_id}", chosen, logs / f"actor_{actor_id}.log", subprocess.PIPE)

    say(f"starting the learner and {num_actors(config)} actors; their own output is in {logs}")
    learner = _Child("learner", arguments(role="learner", port=port), logs / "learner.log", None)
    slots: list[_ActorSlot] = []
    try:
        slots.extend(_ActorSlot(i, start_actor) for i in range(num_actors(config)))
        while learner.process.poll() is None and not stop.wait(0.2):
            for slot in slots:
                status = slot.child.process.poll()
                if slot.waiting:
                    if slot.due:
                        slot.restart()
                elif status is not None:
                    if status > 0 and learner.ends_within(_ENDING_SECONDS):
                        break  # It is the end of the learner that the actor failed of.
                    if status > 0 and not slot.ready.is_set():
                        raise UserError(
                            f"Actor {slot.actor_id} could not start: {slot.child.error} (see {slot.child.log})"
                        )
                    cause = f"was ended by signal {-status}" if status < 0 else f"ended: {slot.child.error}"
                    wait = slot.schedule_restart()
                    total = sum(s.restarts for s in slots)
                    say(f"actor {slot.actor_id} {cause}; starting again in {wait:g} s (restart {total} of this run)")
        if stop.is_set():
            learner.process.terminate()
            if not learner.ends_within(_SHUTDOWN_SECONDS):
                say(f"the learner did not end within {_SHUTDOWN_SECONDS:g} s and is killed; its last checkpoint stands")
                return
        status = learner.process.returncode
        if status > 0:
            raise UserError(f"The learner failed: {learner.error} (see {learner.log})")
        if status < 0:
            raise UserError(
                f"The learner was ended by signal {-status} (see {learner.log}). The same command goes on from its "
                "last checkpoint."
            )
        if restarts := sum(slot.restarts for slot in slots):
            say(f"actors were started again {restarts} times")
    finally:
        _end([learner, *(slot.child for slot in slots)])


def _end(children: list[_Child]) -> None:
    """Ends what still runs. Actors have nothing to save; a learner had its time."""
    for child in children:
        if child.process.poll() is None:
            child.process.kill()
    for child in children:
        child.process.wait()
        if child.process.stdout is not None:
            child.process.stdout.close()

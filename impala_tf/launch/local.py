"""Runs a program as processes on this machine and restarts what fails. Does not import TensorFlow."""

from __future__ import annotations

import logging
import math
import pathlib
import signal
import threading
import time
from collections.abc import Callable, Sequence

from impala_tf.architectures.program import Node, Program
from impala_tf.errors import LearnerLost, UserError
from impala_tf.launch import processes
from impala_tf.launch.processes import Actor, log_of
from impala_tf.processes import child, fork_server
from impala_tf.processes.child import Child
from impala_tf.processes.parent import Spent
from impala_tf.processes.restarts import Restarted
from impala_tf.records.logdir import LogDir

_LOGGER = logging.getLogger(__name__)
_LOOK_SECONDS = 0.2
_SAVE_SECONDS = 8.0
_QUIET_SECONDS = 2.0  # Of waiting without a word.
_ACTORS_SHARE = 0.5  # Of the stall timeout: the rest is for a new actor, before the learner gives up waiting for it.
_TRIES = 3  # Starts in a row after which learners that never made an update are given up.

OnSpent = Callable[[str, Spent], None]

fork_server.preload(["impala_tf.roles.learner", "impala_tf.roles.actor", "impala_tf.roles.a3c_worker"])


def run(
    program: Program,
    logdir: LogDir,
    stop: threading.Event,
    on_spent: OnSpent = lambda name, spent: None,
    stall_timeout: float = math.inf,
) -> None:
    """Runs a program until its learners end or `stop` is set.

    An actor that dies or hangs is restarted after 0.5, 1, 2, ... 30 s. If one of several learners dies or hangs,
    everything is started again after such a time, from the newest checkpoint; learners can only update together. The
    run ends if the only learner dies or hangs, if a learner fails, if an actor fails that was never ready, or if an
    actor ends that is not to be restarted. Whatever ends it, learners that still work have 8 s to write a checkpoint,
    if they have made an update. No process outlives this call.

    Args:
      program: the program to run.
      logdir: folder of the run; its `logs` exist.
      stop: set it to end the run early.
      on_spent: called with a process's name and its time spent so far, each time that the process reports it.
      stall_timeout: seconds without a `Beat` after which a learner hangs (`Child.hangs`); actors after half of it.

    Raises:
      UserError: the error of the process that ended the run.
    """
    tries = 0
    life: Restarted[_Life] = Restarted(lambda restarts: _Life(program, logdir, stop, on_spent, stall_timeout))
    while True:
        current = life.start()
        try:
            current.run()
            return
        except LearnerLost as lost:
            tries = 0 if current.ever_ready else tries + 1
            if tries == _TRIES:
                raise UserError(f"The learners failed {tries} times before their first update: {lost}") from None
            wait = life.failed()
            again = f"from the checkpoint at {logdir.frames:,} frames" if logdir.frames else "from the beginning"
            _LOGGER.warning("%s; all learners start again %s, in %g s", lost, again, wait)
            if stop.wait(wait):
                return


class _Life:
    """All processes of a program, from their start to their end.

    Attributes:
      ever_ready: whether the learners have made an update.
    """

    def __init__(
        self, program: Program, logdir: LogDir, stop: threading.Event, on_spent: OnSpent, stall_timeout: float
    ):
        """Starts nothing yet; arguments as for `run`."""
        self._program, self._logdir, self._stop = program, logdir, stop
        self._on_spent, self._stall_timeout = on_spent, stall_timeout
        self._learners: list[Child] = []
        self._actors: list[Actor] = []
        self._reported: dict[str, Spent] = {}
        self.ever_ready = self._asked = False

    def run(self) -> None:
        """Runs the processes until the learners end or `stop` is set.

        Raises:
          UserError: the error of the process that ended the run.
          LearnerLost: one of several learners has died or hung, and the others have ended.
        """
        _say_start(self._program, self._logdir.logs)
        try:
            if self._start():
                self._watch()
        except BaseException:
            self._let_save()
            raise
        finally:
            # Actors have nothing to save, and the learners have had their time.
            child.kill_all(self._processes())

    def _start(self) -> bool:
        """Starts all processes; returns whether the learners are started: `stop` may be set meanwhile."""
        logs, stop = self._logdir.logs, self._stop
        try:
            for node in self._program.learners:
                leads = not self._learners
                self._learners.append(processes.start(node, logs, stop, 0, learns=True, leads=leads))
            for node in self._program.actors:
                if stop.is_set():
                    break
                self._actors.append(Actor(node, logs, stop))
        except UserError:
            if not stop.is_set():  # Otherwise `start` gave up.
                raise
        return len(self._learners) == len(self._program.learners)

    def _watch(self) -> None:
        """Watches all processes until the learners have ended."""
        learners, stop = self._learners, self._stop
        while not (self._have_ended() or stop.wait(_LOOK_SECONDS)):
            for learner in learners:
                learner.poll()
                if learner.hangs(self._stall_timeout):  # Before the actors, which may be waiting for it.
                    self._has_hung(learner)
            self.ever_ready = self.ever_ready or learners[0].ready
            if all(learner.status is None for learner in learners):  # Otherwise one has finished, and its actors may.
                for actor in self._actors:
                    actor.watch(_ACTORS_SHARE * self._stall_timeout)
            self._report()
        self._let_save()
        for learner in learners:
            learner.poll()  # Its last lines come before those below.
        self._report()
        if not stop.is_set():
            self._check_end()
        elif failed := [learner for learner in learners if _has_failed(learner)]:
            raise UserError(f"The {failed[0].name} failed while it ended: {failed[0].describe_error()}")
        if restarts := sum(actor.restarts for actor in self._actors):
            _LOGGER.info("actors were restarted %d times", restarts)

    def _have_ended(self) -> bool:
        """Whether all learners have ended, or one has ended badly: the others cannot go on without it."""
        statuses = [learner.status for learner in self._learners]
        return None not in statuses or any(statuses)

    def _has_hung(self, learner: Child) -> None:
        learner.kill()
        problem = (
            f"The {learner.name} gave no sign of life for {learner.silence:.0f} s (--stall_timeout) and was killed "
            f"(see {self._log_of(learner)})."
        )
        if len(self._learners) == 1:
            raise UserError(f"{problem} {_how_to_resume(self._logdir)}")
        raise LearnerLost(problem.rstrip("."))

    def _check_end(self) -> None:
        """Raises UserError or LearnerLost if the learners, which nobody has asked to end, did not end by themselves."""
        failed = [learner for learner in self._learners if _has_failed(learner)]
        # The learners that lose another one fail because of that.
        if causes := [learner for learner in failed if not isinstance(learner.error, LearnerLost)]:
            raise UserError(f"The {causes[0].name} failed: {causes[0].describe_error()}")
        killed = [learner for learner in self._learners if learner.status is not None and learner.status < 0]
        if killed:
            assert killed[0].status is not None
            name, log = signal.Signals(-killed[0].status).name, self._log_of(killed[0])
            problem = f"The {killed[0].name} was ended by {name} (see {log})"
            if len(self._learners) == 1:
                raise UserError(f"{problem}. {_how_to_resume(self._logdir)}")
            raise LearnerLost(problem)
        if failed:
            silent = [learner.name for learner in self._learners if learner.status is None]
            problem = f"The {silent[0]} does not answer" if silent else f"The {failed[0].name} failed"
            raise LearnerLost(f"{problem}: {failed[0].describe_error()}")
        if any(learner.answer(0.0) for learner in self._learners):
            raise UserError(f"The learner was asked to end by a signal, and has saved. {_how_to_resume(self._logdir)}")

    def _let_save(self) -> None:
        """Asks the learners that still run to save and end, and waits for them; only once.

        They save nothing before their first update. Somebody who ends the run then does not wait; after an error, the
        learners have 2 s to say what they know of it.
        """
        running = [learner for learner in self._learners if learner.status is None]
        if self._asked or not running:
            return
        self._asked = True
        for learner in running:
            learner.terminate()
            learner.poll()
        nothing_to_save = not any(learner.ready for learner in running)
        if nothing_to_save and self._stop.is_set():
            return
        if _end_within(running, _QUIET_SECONDS) or nothing_to_save:
            return
        _LOGGER.info("waiting for the learner to write its last checkpoint, at most %g s", _SAVE_SECONDS)
        if not _end_within(running, _SAVE_SECONDS - _QUIET_SECONDS):
            late = "the learner did not end within %g s and is killed; its last checkpoint is kept"
            _LOGGER.warning(late, _SAVE_SECONDS)

    def _log_of(self, learner: Child) -> pathlib.Path:
        return log_of(self._program.learners[self._learners.index(learner)], self._logdir.logs)

    def _processes(self) -> list[Child]:
        return [*self._learners, *(actor.process for actor in self._actors if actor.process)]

    def _report(self) -> None:
        for process in self._processes():
            if process.spent and process.spent is not self._reported.get(process.name):
                self._reported[process.name] = process.spent
                self._on_spent(process.name, process.spent)


def _has_failed(learner: Child) -> bool:
    return learner.status is not None and learner.status > 0


def _say_start(program: Program, logs: pathlib.Path) -> None:
    learners, actors = _counted(program.learners, "learner"), _counted(program.actors, "actor")
    learners = "the learner" if len(program.learners) == 1 else learners
    _LOGGER.info("importing TensorFlow and Reverb; the output of %s and %s is in %s", learners, actors, logs)


def _counted(nodes: Sequence[Node], name: str) -> str:
    return f"{len(nodes)} {name}{'s' * (len(nodes) != 1)}"


def _end_within(learners: Sequence[Child], seconds: float) -> bool:
    """Waits for the learners to end; returns whether all have."""
    deadline = time.monotonic() + seconds
    return all([learner.ends_within(max(0.0, deadline - time.monotonic())) for learner in learners])


def _how_to_resume(logdir: LogDir) -> str:
    if not logdir.frames:
        return "There is no checkpoint yet: the same command starts again."
    return f"Run the same command again to resume from the last checkpoint, at {logdir.frames:,} frames."

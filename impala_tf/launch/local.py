"""One machine: starts the learner and the actors as processes and keeps them running. Imports no TensorFlow."""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable

from impala_tf.processes.restarts import Backoff
from impala_tf.config import Config
from impala_tf.environments.remote.mailbox import PolicyMailbox
from impala_tf.errors import UserError
from impala_tf.processes import children_old as children
from impala_tf.processes.children_old import Child
from impala_tf.topology import environment_spec, envs_per_actor, num_actors
from impala_tf.records.logdir import LogDir

_SHUTDOWN_SECONDS = 8.0
_ENDING_SECONDS = 2.0


class _ActorSlot:
    """One of the run's actors, over all of its processes."""

    def __init__(self, actor_id: int, start: Callable[[int, int], Child]):
        """Starts the first process: `start` takes the actor's number and how often it was started before."""
        self.actor_id, self._start = actor_id, start
        self.backoff = Backoff()
        self.child = start(actor_id, 0)

    def restart(self) -> None:
        self.child = self._start(self.actor_id, self.backoff.restarts)
        self.backoff.started()


def run(
    config: Config, port: int, stop: threading.Event, say: Callable[[str], None], silent_learner: bool = False
) -> None:
    """Runs learner and actors until the learner ends or `stop` is set.

    An actor that dies is started again after 0.5, 1, 2, ... 30 s. An actor that fails before its first unroll, or a
    learner that fails, ends the run. No process outlives this call.

    Args:
      config: of the run.
      port: for the learner's server.
      stop: set to end the run early; the learner then writes a checkpoint.
      say: prints a line on the console.
      silent_learner: the learner prints no progress.

    Raises:
      UserError: with the error of the process that ended the run.
    """
    logdir = LogDir(config.run.logdir)
    logs, frames = logdir.logs, logdir.frames
    mailbox = None
    if config.run.inference == "central":
        mailbox = PolicyMailbox(environment_spec(config), num_actors(config), envs_per_actor(config))

    def start_actor(actor_id: int, starts: int) -> Child:
        chosen = dataclasses.replace(config.run, role="actor", address=f"localhost:{port}", actor_id=actor_id)
        actor = dataclasses.replace(config, run=chosen)
        work: children.Work = children.act
        if mailbox is not None:
            # No process, started anew or resumed, plays the same games again.
            seed = [config.run.seed, actor_id, starts, frames]
            work = functools.partial(children.step_environments, mailbox=mailbox.worker(actor_id), seed=seed)
        return Child(f"actor {actor_id}", work, actor, logs / f"actor_{actor_id}.log")

    say(f"importing TensorFlow and Reverb; the output of the learner and {num_actors(config)} actors is in {logs}")
    learning = dataclasses.replace(config, run=dataclasses.replace(config.run, role="learner", port=port))
    learn = functools.partial(children.learn, mailbox=mailbox, silent=silent_learner)
    learner = Child("learner", learn, learning, logs / "learner.log")
    slots: list[_ActorSlot] = []
    try:
        slots.extend(_ActorSlot(i, start_actor) for i in range(num_actors(config)))
        while learner.status is None and not stop.wait(0.2):
            for slot in slots:
                status = slot.child.status
                for warning in slot.child.warnings():
                    say(f"actor {slot.actor_id}: {warning}")
                if slot.backoff.waiting:
                    if not slot.backoff.seconds_left:
                        slot.restart()
                elif status is not None:
                    if status > 0 and learner.ends_within(_ENDING_SECONDS):
                        break  # It is the end of the learner that the actor failed of.
                    if status > 0 and not slot.child.ready:
                        raise UserError(
                            f"Actor {slot.actor_id} could not start: {slot.child.error} (see {slot.child.log})"
                        )
                    cause = f"was ended by signal {-status}" if status < 0 else f"ended: {slot.child.error}"
                    wait = slot.backoff.failed()
                    total = sum(s.backoff.restarts for s in slots)
                    say(f"actor {slot.actor_id} {cause}; starting again in {wait:g} s (restart {total} of this run)")
        if stop.is_set():
            learner.terminate()
            if not learner.ends_within(_SHUTDOWN_SECONDS):
                say(f"the learner did not end within {_SHUTDOWN_SECONDS:g} s and is killed; its last checkpoint stands")
                return
        status = learner.status
        assert status is not None
        if status > 0:
            raise UserError(f"The learner failed: {learner.error} (see {learner.log})")
        if status < 0:
            raise UserError(
                f"The learner was ended by signal {-status} (see {learner.log}). The same command goes on from its "
                "last checkpoint."
            )
        if restarts := sum(slot.backoff.restarts for slot in slots):
            say(f"actors were started again {restarts} times")
    finally:
        # What still runs: actors have nothing to save, a learner had its time.
        for child in (learner, *(slot.child for slot in slots)):
            child.kill()

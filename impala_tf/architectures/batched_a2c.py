"""Batched A2C: the synchronous schemes that the paper compares IMPALA with (Figure 2, Table 1)."""

from __future__ import annotations

import functools
import pathlib
import threading
from typing import TYPE_CHECKING

from impala_tf.architectures import nodes
from impala_tf.architectures.program import Node, Program
from impala_tf.config import Config
from impala_tf.environments.remote.mailbox import PolicyMailbox
from impala_tf.environments.task_set import TaskSet
from impala_tf.errors import UserError
from impala_tf.processes import parent
from impala_tf.processes.child import FORK_SERVER
from impala_tf.processes.meeting import Late, Meeting
from impala_tf.topology import Topology

if TYPE_CHECKING:  # It imports TensorFlow.
    from impala_tf.roles.learner import Training

_LATE = (
    "The learner and the actors did not meet within {:g} s (--stall_timeout) of an update: one of them is too slow or "
    "has failed. Their own output is in the run's logs."
)


def sync_step(config: Config, tasks: TaskSet, topology: Topology, spans: pathlib.Path | None = None) -> Program:
    """Synchronized after every step: the learner's process acts for all environments once the last has answered.

    Args:
      config: settings of the run.
      tasks: tasks of the run.
      topology: topology of the run.
      spans: existing folder in which each process records the spans of its activities; None: none does.

    Raises:
      UserError: a batch is not one unroll of each environment.
    """
    _check_batch(config, topology)
    mailbox = PolicyMailbox(tasks.spec, topology.num_actors, topology.envs_per_actor)
    work = functools.partial(_act_and_learn, config, tasks, topology, mailbox, spans)
    return Program(
        Node(nodes.LEARNER, work, restarts=False), nodes.environments(config, tasks, topology, mailbox, spans)
    )


def sync_trajectory(config: Config, tasks: TaskSet, topology: Topology, spans: pathlib.Path | None = None) -> Program:
    """Synchronized after every trajectory: actors run the policy and wait after each unroll for the update on it.

    An actor that fails ends the run, because all others wait for it. Arguments and errors are those of `sync_step`.
    """
    _check_batch(config, topology)
    meeting, seconds = Meeting(FORK_SERVER, topology.num_actors), config.launch.stall_timeout
    let_go_on = functools.partial(_let_actors_go_on, meeting, seconds)
    wait = functools.partial(_wait_for_update, meeting, seconds)
    return Program(
        nodes.learner(config, tasks, topology, spans, let_go_on), nodes.actors(config, tasks, topology, spans, wait)
    )


def _check_batch(config: Config, topology: Topology) -> None:
    environments = topology.num_actors * topology.envs_per_actor
    data = config.data
    if data.fresh_batch_size != environments:
        needed = round(environments / (1 - data.replay_fraction))
        replayed = f", of which {needed - environments} replayed" if data.replay_fraction else ""
        raise UserError(
            f"--batch_size={data.batch_size}: batched A2C learns from one unroll of each environment; set it to "
            f"{needed}{replayed} ({topology.num_actors} actors with {topology.envs_per_actor} environments each)."
        )


def _act_and_learn(config, tasks, topology, mailbox, spans, _starts: int) -> bool:
    stop = nodes.saving_stop()
    from impala_tf.roles import lockstep_learner

    files = nodes.spans_file(spans, nodes.LEARNER), nodes.spans_file(spans, nodes.POLICY)
    lockstep_learner.run(config, tasks, topology, stop, mailbox, files)
    return stop.is_set()


def _let_actors_go_on(meeting: Meeting, seconds: float, training: Training, stop: threading.Event) -> None:
    """Waits for the actors, once they can pull the parameters of the last update."""

    def look() -> bool:
        parent.beat()
        return not stop.is_set()

    training.wait_until_published()
    try:
        meeting.lead(seconds, look)
    except Late:
        raise training.stalled(_LATE.format(seconds)) from None


def _wait_for_update(meeting: Meeting, seconds: float, actor: int) -> None:
    def look() -> bool:
        parent.beat()
        return True

    try:
        meeting.follow(actor, seconds, look)
    except Late:
        raise UserError(_LATE.format(seconds)) from None

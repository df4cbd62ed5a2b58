"""A worker's process in A3C: acts, computes gradients itself, and sends them to the learner's process to be applied.

One gradient is that of the loss over one unroll of each of the worker's environments. The worker then waits until the
learner has applied it and plays on with parameters that it has changed. So a gradient waits in the queue behind at most
one of each other worker; the rest of its policy lag is what the others have contributed while its unroll was played.
"""

from __future__ import annotations

import contextlib
import logging
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tree

from impala_tf import tensor_leak
from impala_tf.acting import actor as acting
from impala_tf.acting.actor import Actor
from impala_tf.config import Config
from impala_tf.environments import task_set
from impala_tf.environments.task_set import TaskSet
from impala_tf.errors import UserError
from impala_tf.learning.gradients import LossGradients
from impala_tf.networks.agent import Agent, make_agent
from impala_tf.processes import parent
from impala_tf.processes.timings import Timings, shares
from impala_tf.roles import a3c_learner, agreement
from impala_tf.roles import actor as actor_role
from impala_tf.structures import Contribution, Trajectory
from impala_tf.topology import Topology
from impala_tf.transport.gradient_ends import GradientWorkerEnd

ACTIVITIES = (*acting.ACTIVITIES, "gradient")
"""What a worker spends its time on: "writer" sends gradients, "queue" waits until they have been applied."""

_LOGGER = logging.getLogger(__name__)
_LOOK_SECONDS = 0.5


def connect(
    config: Config,
    tasks: TaskSet,
    topology: Topology | Callable[[dict[str, Any]], Topology],
    number: int,
    address: str,
    on_end: Callable[[str, bool], None] | None = None,
) -> Connected:
    """Makes an agent and what computes its gradients, and connects them to the learner.

    Args:
      config: settings of the run.
      tasks: tasks of the run.
      topology: topology of the run, or a function that makes it from what the learner tells.
      number: number of this worker.
      address: address of the learner's server, host:port.
      on_end: as for `GradientWorkerEnd`.

    Raises:
      UserError: as for `GradientWorkerEnd`; the learner has other tasks or settings, or no worker of this number.
    """
    tensor_leak.stop()
    agent = make_agent(tasks.spec, config)
    loss_gradients = a3c_learner.worker_gradients(agent, config)

    def check(told: dict[str, Any]) -> None:
        agreement.check(told, config, tasks, address)
        workers = told["topology"]["num_actors"]
        if number >= workers:
            raise UserError(
                f"--actor_id={number}: the learner at {address} has {workers} workers, numbered from 0. Start it with "
                f"--num_actors={number + 1} or more, or give a smaller --actor_id."
            )

    def resolved(told: dict[str, Any]) -> Topology:
        return topology if isinstance(topology, Topology) else topology(told["topology"])

    def terms(told: dict[str, Any]) -> tuple[Contribution, int]:
        contribution = a3c_learner.trace(config, tasks, resolved(told), agent, loss_gradients)
        return contribution, told["topology"]["num_actors"]

    timeout, variables = config.launch.connect_timeout, agent.trainable_variables
    end = GradientWorkerEnd(address, number, terms, variables, timeout=timeout, check=check, on_end=on_end)
    return Connected(resolved(end.told), agent, loss_gradients, end)


class Connected(NamedTuple):
    """What `connect` makes: the topology, the agent, what computes its gradients, and the connection, to be stopped."""

    topology: Topology
    agent: Agent
    loss_gradients: LossGradients
    end: GradientWorkerEnd


class Worker:
    """Contributes gradients, and waits for each until it has been applied. `close` it."""

    def __init__(
        self,
        config: Config,
        tasks: TaskSet,
        number: int,
        connected: Connected,
        spans: pathlib.Path | None = None,
    ):
        """Makes and resets the environments, then pulls the newest parameters.

        Args:
          config: settings of the run.
          tasks: tasks of the run.
          number: number of this worker.
          connected: what `connect` returned.
          spans: CSV file for the spans of `ACTIVITIES`; None: no file.

        Raises:
          UserError: the environments cannot be made.
        """
        topology, agent, self._loss_gradients, self._end = connected
        self._number, self._stall_timeout = number, config.launch.stall_timeout
        self._unrolls: list[Trajectory] = []
        self.timings = Timings(ACTIVITIES, spans, on_lap=parent.beat)
        environment_seed, action_seed = actor_role.seeds(config, number, self._end.learner_step)
        task_ids = topology.task_ids(number)
        environment = task_set.make_batch(tasks, task_ids, environment_seed, topology.env_threads)
        with contextlib.ExitStack() as stack:
            stack.callback(environment.close)
            self._actor = Actor(
                environment,
                agent,
                lambda unroll: self._unrolls.append(tree.map_structure(np.copy, unroll)),
                lambda: self._end.learner_step,  # The parameters have been pulled: below, and then by `wait`.
                config.data.unroll_length,
                action_seed,
                task_ids,
                self.timings,
            )
            self._end.refresh()  # Making the environments may have taken minutes.
            self._open = stack.pop_all()

    def contribute(self) -> int:
        """Takes T steps in every environment and sends the gradient of the loss over these unrolls.

        Returns:
          The number of unrolls: B, less those in which an environment failed. If it is 0, nothing was sent.

        Raises:
          UserError: the policy is not finite.
        """
        self._actor.run_unroll()
        played = len(self._unrolls)
        if played:
            unrolls = time_major(self._unrolls)
            self._unrolls.clear()
            gradients = self._loss_gradients(tree.map_structure(tf.convert_to_tensor, unrolls))
            gradients = tree.map_structure(lambda x: x.numpy(), gradients)
            self.timings.lap("gradient")
            self._end.contribute(gradients, unrolls)
            self.timings.lap("writer")
        return played

    def wait(self) -> None:
        """Waits until the last contribution has been applied, and pulls parameters that it has changed.

        While nothing is published, the learner is busy, as with a last evaluation: it is waited for. The connection
        watches whether it is still there.

        Raises:
          UserError: gradients of others are applied for `stall_timeout` seconds, and this worker's is not.
        """
        lap, passed_over = self.timings.lap, 0.0
        self.timings.begin()
        while True:
            start = time.monotonic()
            self._end.flush(_LOOK_SECONDS)
            published = self._end.wait_for_publication(_LOOK_SECONDS)
            lap("queue")
            self._end.refresh()
            lap("variables")
            if self._end.applied:
                return
            if published:
                passed_over += time.monotonic() - start
            if passed_over > self._stall_timeout:
                raise UserError(
                    f"The learner applies the gradients of others, but has not applied that of worker {self._number} "
                    f"in {self._stall_timeout:g} s (--stall_timeout). Does another worker have "
                    f"--actor_id={self._number}, too?"
                )

    def close(self) -> None:
        """Closes the environments."""
        self._open.close()


def time_major(unrolls: list[Trajectory]) -> Trajectory:
    """Stacks unrolls of arrays [T + 1, ...] to time-major [T + 1, B, ...]; `core_state` and `task_id` to [B, ...]."""
    stacked = tree.map_structure(lambda *arrays: np.stack(arrays), *unrolls)
    steps = stacked._replace(core_state=(), task_id=())
    steps = tree.map_structure(lambda x: np.ascontiguousarray(np.swapaxes(x, 0, 1)), steps)
    return steps._replace(core_state=stacked.core_state, task_id=stacked.task_id)


def run(
    config: Config,
    tasks: TaskSet,
    topology: Topology | Callable[[dict[str, Any]], Topology],
    number: int,
    *,
    address: str,
    ready: Callable[[], None],
    spans: pathlib.Path | None = None,
) -> None:
    """Contributes until a signal ends the process; a worker has nothing to save.

    Args:
      config: settings of the run.
      tasks: tasks of the run.
      topology: topology of the run; for a worker started by hand, a function that makes it from what the learner tells.
      number: number of this worker.
      address: address of the learner's server, host:port.
      ready: called when the learner has applied the first gradient.
      spans: CSV file for the spans of its activities; None: no file.

    Raises:
      UserError: as for `connect` and `Worker`.
    """
    actor_role.limit_tensorflow(config)
    connected = connect(config, tasks, topology, number, address, actor_role.leave)
    with connected.end, contextlib.closing(Worker(config, tasks, number, connected, spans)) as worker:
        reported, contributions = time.monotonic(), 0
        while True:
            sent = worker.contribute() > 0
            worker.wait()
            contributions += sent
            if sent and contributions == 1:
                ready()
            if time.monotonic() - reported > config.run.log_interval:
                reported = time.monotonic()
                spent = worker.timings.spent
                parent.send(spent)
                _LOGGER.info("%d gradients in %.0f s: %s", contributions, spent.elapsed, shares(spent))

"""The learner's process in A3C: applies the workers' gradients, one at a time and in order of arrival."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from impala_tf.config import Config
from impala_tf.environments.task_set import TaskSet
from impala_tf.learning.gradients import LossGradients
from impala_tf.learning.learner import Learner
from impala_tf.networks.agent import Agent
from impala_tf.roles import learner as role
from impala_tf.roles.intake import served
from impala_tf.structures import Batch, Contribution
from impala_tf.topology import Topology
from impala_tf.transport.gradient_ends import Applied, GradientLearnerEnd, contribution_signature
from impala_tf.transport.signatures import trajectory_signature


def worker_gradients(agent: Agent, config: Config) -> LossGradients:
    """Returns what computes a worker's gradients."""
    return LossGradients(agent, config.loss, xla=False)


def trace(
    config: Config, tasks: TaskSet, topology: Topology, agent: Agent, loss_gradients: LossGradients
) -> Contribution:
    """Traces what computes a worker's gradients and returns the signature of a contribution.

    Args:
      config: settings of the run.
      tasks: tasks of the run.
      topology: topology of the run.
      agent: the network.
      loss_gradients: computes the network's gradients.
    """
    unroll = trajectory_signature(tasks.spec, agent.core_state_spec, config.data.unroll_length)
    gradients = loss_gradients.trace(unroll, topology.envs_per_actor)
    return contribution_signature(gradients, unroll, topology.envs_per_actor)


class GradientIntake:
    """Workers' gradients. The optimizer's statistics are shared by all workers (Mnih et al., 2016, section 4)."""

    what = "gradients"

    def __init__(
        self, config: Config, tasks: TaskSet, topology: Topology, learner: Learner, *, make_publisher: Callable
    ):
        """Starts the server. Arguments and errors are those of `UnrollIntake`."""
        self._learner = learner
        self._unroll_length, self._frames_per_step = config.data.unroll_length, tasks.spec.frames_per_step
        self._contribution = trace(config, tasks, topology, learner.agent, worker_gradients(learner.agent, config))
        self._applied = Applied(topology.num_actors)
        variables = [*learner.agent.trainable_variables, self._applied.variable]
        options = served(config, tasks, topology, learner, make_publisher)
        self.end = GradientLearnerEnd(config.data, self._contribution, variables, **options)

    def trace(self) -> None:
        """Builds the update's graph."""
        self._learner.trace_apply(self._contribution.gradients)

    def next(self, timeout: float) -> Contribution | None:
        """Returns the next contribution, or None if there is none within `timeout` seconds or it is to be skipped."""
        taken = self.end.next_contribution(timeout)
        return None if taken is None or self._to_skip(taken) else taken

    def learn(self, taken: Contribution) -> tuple[Batch, dict[str, tf.Tensor]]:
        """Applies a contribution and notes it, to be published with the parameters that it makes."""
        played = taken.played.numpy()
        frames = np.count_nonzero(played) * self._unroll_length * self._frames_per_step
        metrics = self._learner.apply(taken.gradients, np.int64(frames))
        self._applied.add(int(taken.worker), int(taken.ticket))
        unrolls = tf.nest.map_structure(lambda x: tf.constant(x.numpy()[..., played]), taken.unrolls)  # No padding.
        return Batch(unrolls, fresh=tf.constant(played[played])), metrics

    def _to_skip(self, taken: Contribution) -> bool:
        """Whether a contribution has been applied, or was meant for a learner that ran here before.

        After a restart from a checkpoint, a worker may still send what it has computed with parameters that are lost.
        """
        acted = taken.unrolls.learner_step[1:].numpy().max()  # Entry 0 is older: it ends the unroll before.
        return self._applied.has(int(taken.worker), int(taken.ticket)) or acted > int(self._learner.step_count)


run = functools.partial(role.run, make_intake=GradientIntake)
"""Learns until the run is finished; as `impala_tf.roles.learner.run`."""

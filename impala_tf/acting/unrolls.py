"""Collects outputs of environments and actions of the policy into unrolls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tree

from impala_tf.structures import EnvironmentOutput, EnvironmentSpec, Trajectory, map_spec, trajectory_spec


class Unrolls:
    """The unrolls of B environments that are stepped together, filled entry by entry."""

    def __init__(
        self,
        environment: EnvironmentSpec,
        core_state_spec: Any,
        num_envs: int,
        unroll_length: int,
        task_ids: np.ndarray | int = 0,
    ):
        """Allocates the arrays.

        Args:
          environment: spec of the environments.
          core_state_spec: nest of `ArraySpec`s of one environment's core state.
          num_envs: B.
          unroll_length: T, in agent steps.
          task_ids: int32 [B], the task of each environment, or one int for all.
        """
        spec = trajectory_spec(environment, core_state_spec, unroll_length)
        arrays = (map_spec(lambda array: np.zeros((num_envs, *array.shape), array.dtype), part) for part in spec)
        self._unrolls = Trajectory(*arrays)
        self._unrolls.task_id[:] = task_ids
        outputs = EnvironmentOutput(*(getattr(self._unrolls, name) for name in EnvironmentOutput._fields))
        self._outputs = tree.flatten(outputs)  # Once, as they are written at every step.
        self._unroll_length = unroll_length
        self._entry = 0

    def begin(self, output: EnvironmentOutput, core_state: Any) -> None:
        """Starts new unrolls with the environments' first output and drops what has been collected.

        No action led to the first observation, so its action, logits and learner step are 0.

        Args:
          output: [B, ...], returned by `reset`.
          core_state: nest [B, ...], before the first observation.
        """
        self._entry = 0
        for column in (self._unrolls.action, self._unrolls.behaviour_logits, self._unrolls.learner_step):
            column[:, 0] = 0
        self._put_output(output)
        self._put_core_state(core_state)

    def append(self, output: EnvironmentOutput, action: np.ndarray, logits: np.ndarray, learner_step: int) -> None:
        """Adds an entry.

        Args:
          output: [B, ...], the environments' answer to `action`.
          action: int32 [B].
          logits: float32 [B, A], logits that the action was drawn from.
          learner_step: learner step of the parameters that computed them.
        """
        self._entry += 1
        self._put_output(output)
        self._unrolls.action[:, self._entry] = action
        self._unrolls.behaviour_logits[:, self._entry] = logits
        self._unrolls.learner_step[:, self._entry] = learner_step

    @property
    def finished(self) -> bool:
        """Whether the unrolls have all of their T transitions."""
        return self._entry == self._unroll_length

    def take(self, core_state: Any) -> Iterator[Trajectory]:
        """Yields the finished unrolls, then starts the next, whose entry 0 is entry T of these.

        An unroll ([T + 1, ...] arrays) is valid until the next is requested. Unrolls in which an environment failed
        (`EnvironmentOutput.episode_length` is -1 at one of the transitions) are dropped. Exhaust the iterator.

        Args:
          core_state: nest [B, ...], before entry T's observation.
        """
        for i in np.flatnonzero((self._unrolls.episode_length[:, 1:] >= 0).all(axis=1)):
            yield tree.map_structure(lambda column: column[i], self._unrolls)  # noqa: B023
        self._entry = 0
        for column in tree.flatten(self._unrolls._replace(core_state=(), task_id=())):
            column[:, 0] = column[:, -1]
        self._put_core_state(core_state)

    def _put_output(self, output: EnvironmentOutput) -> None:
        for column, value in zip(self._outputs, tree.flatten(output)):
            np.copyto(column[:, self._entry], value)

    def _put_core_state(self, core_state: Any) -> None:
        tree.map_structure(np.copyto, self._unrolls.core_state, core_state)

"""What the policy's process keeps of each worker: its unrolls, its core state, and the actions it is carrying out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tree

from impala_tf.acting.unrolls import Unrolls
from impala_tf.structures import EnvironmentOutput


class PendingAction(NamedTuple):
    """A worker's pending actions, recorded together with their outcome."""

    action: np.ndarray
    logits: np.ndarray
    learner_step: int


class WorkerUnrolls:
    """One worker's unrolls, core state and pending action."""

    def __init__(self, unrolls: Unrolls, initial_state: Any):
        self.unrolls, self._initial_state = unrolls, initial_state
        self.start, self.core_state = 0, initial_state
        self.pending: PendingAction | None = None

    def restart(self, start: int) -> None:
        """Drops what was collected, because a new process has taken over."""
        self.start, self.core_state, self.pending = start, self._initial_state, None

    def record(self, output: EnvironmentOutput) -> None:
        """Adds the environments' output, with the action that led to it."""
        if self.pending is None:
            self.unrolls.begin(output, self.core_state)
        else:
            self.unrolls.append(output, *self.pending)


def last_actions(workers: Sequence[WorkerUnrolls], num_envs: int) -> np.ndarray:
    """Returns the actions that led to the workers' outputs, int32 [len(workers) * num_envs]; 0 after a start."""
    zeros = np.zeros(num_envs, np.int32)
    return np.concatenate([zeros if worker.pending is None else worker.pending.action for worker in workers])


def concatenate(nests: Sequence[Any]) -> Any:
    """Concatenates nests of arrays [B, ...] along B."""
    return nests[0] if len(nests) == 1 else tree.map_structure(lambda *arrays: np.concatenate(arrays), *nests)

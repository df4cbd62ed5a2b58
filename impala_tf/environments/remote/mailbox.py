"""Exchanges outputs and actions between environment processes and the policy's process.

The arrays lie in shared memory; pipes announce them.

A worker's arrays belong to one side at a time. The worker writes the outputs of its environments and announces them;
the arrays then belong to the policy, until it sends the actions. Announcements and actions carry the number of the
worker's start, so that a message for a worker that has died never reaches its successor.
"""

from __future__ import annotations

import multiprocessing
import struct
from collections.abc import Set
from multiprocessing import sharedctypes
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol

import numpy as np
import tree

from impala_tf.environments.base import empty_output
from impala_tf.structures import EnvironmentOutput, EnvironmentSpec

_ANNOUNCEMENT = struct.Struct("=ii")  # Worker, and the number of its start.
_START = struct.Struct("=i")
_ALIGNMENT = 64


class Mailbox(Protocol):
    """The policy's side of the exchange with N workers of B environments each.

    Attributes:
      environment: spec of the environments.
      num_workers: N.
      num_envs: B.
      watched: whether `take` notices workers that do not answer in time: they are `down`, or it raises.
    """

    environment: EnvironmentSpec
    num_workers: int
    num_envs: int
    watched: bool

    @property
    def down(self) -> Set[int]:
        """The workers known to have failed and not to have answered since."""

    def open(self) -> None:
        """Prepares the exchange; called once, in the policy's process, before the methods below."""

    def take(self, timeout: float) -> list[tuple[int, int, EnvironmentOutput]]:
        """Waits at most `timeout` seconds for outputs, and returns all that have arrived.

        Returns:
          [(worker, start, a copy of its output)]. `start` counts the starts of the worker, from 1; its first output is
          that of `reset`.

        Raises:
          UserError: an environment cannot be made.
          EnvironmentFailed: an environment has failed for good.
        """

    def answer(self, worker: int, start: int, action: np.ndarray) -> None:
        """Sends a worker the actions that answer an output.

        Args:
          worker, start: as `take` returned them; after another restart of the worker, the actions are dropped.
          action: int32 [B].
        """


class _Arrays(NamedTuple):
    """One worker's shared arrays.

    Attributes:
      start: int32 [1], how often the worker has started.
      action: int32 [B].
      output: [B, ...].
    """

    start: Any
    action: Any
    output: EnvironmentOutput


class _Memory:
    """The arrays of all workers in one piece of shared memory; can be passed to child processes."""

    def __init__(self, environment: EnvironmentSpec, num_workers: int, num_envs: int):
        self._environment, self._num_envs = environment, num_envs
        self._size = sum(self._space(array) for array in tree.flatten(self._empty()))
        self._bytes = sharedctypes.RawArray("B", num_workers * self._size)

    def arrays(self, worker: int) -> _Arrays:
        """Returns views of one worker's arrays in this process."""
        offset = worker * self._size

        def view(array: np.ndarray) -> np.ndarray:
            nonlocal offset
            shared = np.frombuffer(self._bytes, array.dtype, array.size, offset).reshape(array.shape)
            offset += self._space(array)
            return shared

        return tree.map_structure(view, self._empty())

    def _empty(self) -> _Arrays:
        one = np.zeros(1, np.int32)
        return _Arrays(one, np.zeros(self._num_envs, np.int32), empty_output(self._environment, self._num_envs))

    @staticmethod
    def _space(array: np.ndarray) -> int:
        return -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT


class WorkerMailbox:
    """The worker's side of the exchange."""

    def __init__(self, memory: _Memory, worker: int, announce: Connection, answers: Connection):
        self._memory, self._worker, self._announce, self._answers = memory, worker, announce, answers

    def open(self) -> None:
        """Takes over the mailbox; called once, in the worker's process, before the methods below."""
        self._arrays = self._memory.arrays(self._worker)
        self._arrays.start[0] += 1
        self._start = int(self._arrays.start[0])

    def put(self, output: EnvironmentOutput) -> None:
        """Sends an output of the environments."""
        tree.map_structure(np.copyto, self._arrays.output, output)
        self._announce.send_bytes(_ANNOUNCEMENT.pack(self._worker, self._start))

    def actions(self, timeout: float) -> np.ndarray | None:
        """Waits for the actions, int32 [B], that answer the last `put`; returns None after `timeout` seconds."""
        while self._answers.poll(timeout):
            if _START.unpack(self._answers.recv_bytes())[0] == self._start:
                return self._arrays.action
        return None


class PolicyMailbox:
    """The `Mailbox` of workers that others start and watch."""

    watched = False
    down: Set[int] = frozenset()  # It is not told.

    def __init__(self, environment: EnvironmentSpec, num_workers: int, num_envs: int):
        """Allocates the shared memory and the pipes; called in the process that starts both sides.

        Args:
          environment: spec of the environments.
          num_workers: N.
          num_envs: B, environments of each worker.
        """
        self.environment, self.num_workers, self.num_envs = environment, num_workers, num_envs
        self._memory = _Memory(environment, num_workers, num_envs)
        # One pipe for all announcements: they are short enough that each is written in one piece.
        self._announced, announce = multiprocessing.Pipe(duplex=False)
        pipes = [multiprocessing.Pipe(duplex=False) for _ in range(num_workers)]
        self._answers = [answer for _, answer in pipes]
        self._workers = [WorkerMailbox(self._memory, i, announce, go) for i, (go, _) in enumerate(pipes)]

    def worker(self, worker: int) -> WorkerMailbox:
        """Returns the worker's side, to be passed to its process at each start."""
        return self._workers[worker]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_workers": []}  # The policy's process gets only its own ends of the pipes.

    def open(self) -> None:
        self._arrays = [self._memory.arrays(i) for i in range(self.num_workers)]

    def take(self, timeout: float) -> list[tuple[int, int, EnvironmentOutput]]:
        taken: list[tuple[int, int, EnvironmentOutput]] = []
        while self._announced.poll(0 if taken else timeout):
            worker, start = _ANNOUNCEMENT.unpack(self._announced.recv_bytes())
            arrays = self._arrays[worker]
            output = tree.map_structure(np.array, arrays.output)
            # Otherwise the worker has been restarted, and may have been writing during the copy.
            if start == arrays.start[0]:
                taken.append((worker, start, output))
        return taken

    def answer(self, worker: int, start: int, action: np.ndarray) -> None:
        np.copyto(self._arrays[worker].action, action)
        self._answers[worker].send_bytes(_START.pack(start))

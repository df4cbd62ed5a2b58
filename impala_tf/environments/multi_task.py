"""Environments of several tasks, stepped together; a task that fails does not stop the others."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import numpy as np
import tree

from impala_tf.environments.base import BatchedEnvironment, check_same_spec, empty_output, mark_failed
from impala_tf.errors import UserError, one_line
from impala_tf.processes.restarts import Restarted
from impala_tf.structures import EnvironmentOutput, EnvironmentSpec

_LOGGER = logging.getLogger(__name__)
_IDLE_SECONDS = 0.1

MakeTask = Callable[[int, int, int], BatchedEnvironment]
"""Takes a task's number, how many instances of it to make, and how often they have failed before."""


class MultiTaskEnvironment(BatchedEnvironment):
    """B instances, each of one of several tasks with the same spec.

    When a task raises, its instances are closed and made again after 0.5, 1, 2, ... 30 s. Until then, and in the step
    in which they restart, their entries are marked by an `episode_length` of -1, and `Unrolls` drops the unrolls that
    hold them.

    Attributes:
      task_ids: int32 [B], ascending: the task of each instance.
    """

    def __init__(
        self,
        spec: EnvironmentSpec,
        names: Sequence[str],
        task_ids: np.ndarray,
        make_task: MakeTask,
    ):
        """Makes all instances.

        Args:
          spec: that every task must have.
          names: environment ids of all tasks of the run, for messages.
          task_ids: int [B], ascending.
          make_task: makes the instances of one task.

        Raises:
          UserError: a task has another spec, or making it raised this. Other errors count as a failure of the task.
        """
        self.spec = spec
        self.task_ids = np.asarray(task_ids, np.int32)
        self.num_envs = len(self.task_ids)
        self._tasks: list[_Task] = []
        try:
            for task in np.unique(self.task_ids).tolist():
                first, last = np.searchsorted(self.task_ids, [task, task + 1]).tolist()
                self._tasks.append(_Task(spec, names[task], slice(first, last), task, make_task))
                self._tasks[-1].start()
        except BaseException:
            self.close()
            raise

    def reset(self) -> EnvironmentOutput:
        return _join([task.reset() for task in self._tasks])

    def step(self, actions: np.ndarray) -> EnvironmentOutput:
        actions = self._check(actions)
        for task in self._tasks:
            task.send(actions[task.rows])
        outputs = [task.receive() for task in self._tasks]
        if all(task.failed for task in self._tasks):
            time.sleep(_IDLE_SECONDS)  # There is nothing to do until a restart is due.
        return _join(outputs)

    def close(self) -> None:
        for task in self._tasks:
            task.close()


def _join(outputs: Sequence[EnvironmentOutput]) -> EnvironmentOutput:
    return tree.map_structure(lambda *arrays: np.concatenate(arrays), *outputs)


class _Task:
    """The instances of one task, over all of their restarts."""

    def __init__(self, spec: EnvironmentSpec, name: str, rows: slice, task: int, make_task: MakeTask):
        self._spec, self._name, self.rows = spec, name, rows
        self._task, self._make_task = task, make_task
        self._life: Restarted[BatchedEnvironment] = Restarted(self._make)

    def start(self) -> None:
        try:
            self._life.start()
        except UserError:
            raise
        except Exception as error:
            self._fail(error)

    @property
    def failed(self) -> bool:
        return self._life.current is None

    def reset(self) -> EnvironmentOutput:
        try:
            return self._life.current.reset() if self._life.current else self._no_answer()
        except Exception as error:
            return self._fail(error)

    def send(self, actions: np.ndarray) -> None:
        if self._life.current:
            try:
                self._life.current.send(actions)
            except Exception as error:
                self._fail(error)

    def receive(self) -> EnvironmentOutput:
        """Returns the output for the last actions, marked as no answer if the task has failed."""
        try:
            if self._life.current:
                return self._life.current.receive()
            if self._life.due:
                observation = self._life.start().reset().observation
                _LOGGER.warning("task %s has been started again", self._name)
                return self._no_answer()._replace(observation=observation)
        except Exception as error:
            return self._fail(error)
        return self._no_answer()

    def close(self) -> None:
        environment, self._life.current = self._life.current, None
        if environment is not None:
            environment.close()

    def _make(self, restarts: int) -> BatchedEnvironment:
        environment = self._make_task(self._task, self.rows.stop - self.rows.start, restarts)
        try:
            check_same_spec(self._name, environment.spec, self._spec)
        except UserError:
            environment.close()
            raise
        return environment

    def _fail(self, error: Exception) -> EnvironmentOutput:
        environment = self._life.current
        wait = self._life.failed()
        _LOGGER.warning("task %s failed (%s); starting it again in %g s", self._name, one_line(error), wait)
        try:
            if environment is not None:
                environment.close()
        except Exception as another:
            _LOGGER.warning("task %s could not be closed (%s)", self._name, one_line(another))
        return self._no_answer()

    def _no_answer(self) -> EnvironmentOutput:
        return mark_failed(empty_output(self._spec, self.rows.stop - self.rows.start))

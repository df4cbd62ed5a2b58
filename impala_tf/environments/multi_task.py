"""Environments of several tasks, stepped together; a task that fails does not stop the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import tree

from impala_tf.processes.restarts import Backoff
from impala_tf.environments.base import BatchedEnvironment, empty_output
from impala_tf.errors import UserError, one_line
from impala_tf.structures import EnvironmentOutput, EnvironmentSpec

_IDLE_SECONDS = 0.1

MakeTask = Callable[[int, int, int], BatchedEnvironment]
"""Takes a task's number, how many instances of it to make, and how often they were made before."""


class MultiTaskEnvironment(BatchedEnvironment):
    """B instances, each of one of several tasks that look the same to an agent.

    When a task raises, its instances are closed and made anew after 0.5, 1, 2, ... 30 s. Until then, and in the step in
    which they start again, their entries are marked by an `episode_length` of -1: `Unrolls` drops what holds them.

    Attributes:
      task_ids: int32 [B], ascending: the task of each instance.
    """

    def __init__(
        self,
        spec: EnvironmentSpec,
        names: Sequence[str],
        task_ids: np.ndarray,
        make_task: MakeTask,
        say: Callable[[str], None],
    ):
        """Makes all instances.

        Args:
          spec: what every task must look like.
          names: of all tasks of the run, for messages.
          task_ids: int [B], ascending.
          make_task: makes the instances of one task.
          say: told when a task fails and when it has been started again.

        Raises:
          UserError: a task looks different from the others, or making it raises this; what else that raises is a
            failure of the task.
        """
        self.spec = spec
        self.task_ids = np.asarray(task_ids, np.int32)
        self.num_envs = len(self.task_ids)
        self._groups: list[_Group] = []
        try:
            for task in np.unique(self.task_ids).tolist():
                first, last = np.searchsorted(self.task_ids, [task, task + 1]).tolist()
                self._groups.append(_Group(spec, names[task], slice(first, last), task, make_task, say))
                self._groups[-1].start()
        except BaseException:
            self.close()
            raise

    def reset(self) -> EnvironmentOutput:
        return self._joined([group.reset() for group in self._groups])

    def step(self, actions: np.ndarray) -> EnvironmentOutput:
        actions = self._check(actions)
        for group in self._groups:
            group.send(actions[group.rows])
        outputs = [group.receive() for group in self._groups]
        if all(group.failed for group in self._groups):
            time.sleep(_IDLE_SECONDS)  # There is nothing to do until one of them is due.
        return self._joined(outputs)

    def close(self) -> None:
        for group in self._groups:
            group.close()

    @staticmethod
    def _joined(outputs: Sequence[EnvironmentOutput]) -> EnvironmentOutput:
        return tree.map_structure(lambda *arrays: np.concatenate(arrays), *outputs)


class _Group:
    """The instances of one task."""

    def __init__(
        self,
        spec: EnvironmentSpec,
        name: str,
        rows: slice,
        task: int,
        make_task: MakeTask,
        say: Callable[[str], None],
    ):
        self._spec, self.name, self.rows = spec, name, rows
        self._task, self._make_task, self._say = task, make_task, say
        self._backoff = Backoff()
        self._environment: BatchedEnvironment | None = None

    def start(self) -> None:
        try:
            self._environment = self._make()
        except UserError:
            raise
        except Exception as error:
            self._fail(error)

    @property
    def failed(self) -> bool:
        return self._environment is None

    def reset(self) -> EnvironmentOutput:
        try:
            return self._no_answer() if self._environment is None else self._environment.reset()
        except Exception as error:
            return self._fail(error)

    def send(self, actions: np.ndarray) -> None:
        if self._environment is not None:
            try:
                self._environment.send(actions)
            except Exception as error:
                self._fail(error)

    def receive(self) -> EnvironmentOutput:
        """What the instances answered to the last actions, or that they did not."""
        try:
            if self._environment is not None:
                return self._environment.receive()
            if not self._backoff.seconds_left:
                return self._start_again()
        except Exception as error:
            return self._fail(error)
        return self._no_answer()

    def close(self) -> None:
        environment, self._environment = self._environment, None
        if environment is not None:
            environment.close()

    def _make(self) -> BatchedEnvironment:
        environment = self._make_task(self._task, self.rows.stop - self.rows.start, self._backoff.restarts)
        check_same_spec(self.name, environment.spec, self._spec)
        return environment

    def _start_again(self) -> EnvironmentOutput:
        environment = self._make()
        try:
            observation = environment.reset().observation
        except BaseException:
            environment.close()
            raise
        self._environment = environment
        self._backoff.started()
        self._say(f"task {self.name} has been started again")
        return self._no_answer()._replace(observation=observation)

    def _fail(self, error: Exception) -> EnvironmentOutput:
        wait = self._backoff.failed()
        self._say(f"task {self.name} failed ({one_line(error)}); starting it again in {wait:g} s")
        try:
            self.close()
        except Exception as another:
            self._say(f"task {self.name} could not be closed ({one_line(another)})")
        return self._no_answer()

    def _no_answer(self) -> EnvironmentOutput:
        output = empty_output(self._spec, self.rows.stop - self.rows.start)
        output.truncated[:] = True
        output.episode_length[:] = -1
        return output


def check_same_spec(name: str, spec: EnvironmentSpec, expected: EnvironmentSpec) -> None:
    """One network for all tasks. The actions may have other names in each.

    Raises:
      UserError: the tasks look different to an agent.
    """
    for field, its, theirs in zip(spec._fields, spec, expected):
        if its != theirs and field != "action_names":
            raise UserError(
                f"{name} cannot share one network with the other tasks: its {field.replace('_', ' ')} is "
                f"{_short(its)}, theirs {_short(theirs)}."
            )


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(part)}" for key, part in value.items())
    if hasattr(value, "shape"):
        return f"{value.dtype} {list(value.shape)}"  # type: ignore[attr-defined]
    return str(value)

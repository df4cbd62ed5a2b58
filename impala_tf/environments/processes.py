"""Gymnasium environments in processes of their own: what blocks, hangs or dies there does not take this process along.

Every wait has a deadline. No process is left over: an instance is killed, with all processes that it has started, when
this environment is closed, when one of the instances fails, and when this process ends, in whichever way (on Linux).
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import multiprocessing.util
import queue
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from typing import Any

import gymnasium
from gymnasium.spaces import Space
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.vector.utils import write_to_shared_memory

from impala_tf.environments.base import EnvironmentFailed
from impala_tf.environments.gymnasium_env import action_names
from impala_tf.processes.child import Hosted, end, end_of, end_with_parent, without_interrupts
from impala_tf.errors import one_line

_CLOSE_SECONDS = 5.0
_TERMINATE_SECONDS = 1.0
_MESSAGE_LENGTH = 1000

Make = Callable[[], gymnasium.Env]
"""Makes one instance. It is pickled: a function of a module, or a `functools.partial` of one."""


def describe(name: str, make: Make, deadline: float) -> tuple[Space, Space, tuple[str, ...]]:
    """Observation and action space and action names, from an instance made in a process of its own and closed again.

    Raises:
      UserError: as `make` does.
      EnvironmentFailed: anything else went wrong there, or it took more than `deadline` seconds.
    """
    hosted = Hosted(_describe, make)
    try:
        return hosted.answer(deadline)
    except EnvironmentFailed as error:
        raise EnvironmentFailed(f"{name}: it could not be made: {error}") from None
    finally:
        hosted.end()


class Instances(AsyncVectorEnv):
    """A vector environment, reset in the same step, each instance in a process of its own.

    After `reset_async` or `step_async`, `answer` waits. Whatever raises `EnvironmentFailed` has closed everything.

    Args:
      name: of the environment, for messages.
      make: makes an instance.
      spaces: observation and action space, as `describe` has found them.
      num_envs: instances.
      deadline: seconds in which all of them must be made, and then answer each time.

    Raises:
      EnvironmentFailed: an instance died, raised or did not answer in time.
    """

    def __init__(self, name: str, make: Make, spaces: tuple[Space, Space], num_envs: int, deadline: float):
        self.name, self.deadline = name, deadline
        # AsyncVectorEnv makes an instance in this process to learn the spaces; it gets them without.
        known = [functools.partial(_Spaces, *spaces)] * num_envs
        with without_interrupts():
            super().__init__(
                known,
                context="spawn",
                worker=functools.partial(_host, make),
                autoreset_mode=AutoresetMode.SAME_STEP,
            )

    def reset_async(self, seed: Any = None, options: dict | None = None) -> None:
        with self._closed_on_failure():
            super().reset_async(seed, options)

    def step_async(self, actions: Any) -> None:
        with self._closed_on_failure():
            super().step_async(actions)

    def answer(self) -> tuple:
        """What `reset_wait` or `step_wait` returns.

        Raises:
          EnvironmentFailed: an instance died, raised or did not answer in time.
        """
        with self._closed_on_failure():
            self._await_all()
            return getattr(self, f"{self._state.value}_wait")(timeout=0)

    def _await_all(self) -> None:
        end = time.monotonic() + self.deadline
        waiting = {pipe: index for index, pipe in enumerate(self.parent_pipes)}
        sentinels = [process.sentinel for process in self.processes]
        while waiting:
            ready = wait([*waiting, *sentinels], max(0.0, end - time.monotonic()))
            if not ready:
                raise EnvironmentFailed(f"instance {min(waiting.values())} did not answer within {self.deadline:g} s")
            if not waiting.keys() & ready:
                raise EOFError
            for pipe in waiting.keys() & ready:
                del waiting[pipe]

    @contextlib.contextmanager
    def _closed_on_failure(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, EnvironmentFailed) as error:
            cause = str(error) if isinstance(error, EnvironmentFailed) else self._cause()
            self.close(terminate=True)
            raise EnvironmentFailed(f"{self.name}: {cause}") from None

    def _cause(self) -> str:
        """Why a process has ended."""
        wait([process.sentinel for process in self.processes], _TERMINATE_SECONDS)
        with contextlib.suppress(queue.Empty):
            index, _, message, _ = self.error_queue.get(timeout=0.1)
            return f"instance {index} raised {message}"
        ended = [f"instance {i}: its process {end_of(p)}" for i, p in enumerate(self.processes) if not p.is_alive()]
        return ended[0] if ended else "the connection to an instance is lost"

    def _check_spaces(self) -> None:
        """Called by the constructor, where AsyncVectorEnv would wait for ever: waits for the instances to be made."""
        # At the end of this process, before multiprocessing ends the instances, but not what they have started.
        self._at_exit = multiprocessing.util.Finalize(self, end, (self.processes, 0.0), exitpriority=1)
        with self._closed_on_failure():
            self._await_all()
            for pipe in self.parent_pipes:
                pipe.recv()

    def close_extras(self, terminate: bool = False) -> None:  # type: ignore[override]
        if not terminate:
            for pipe in self.parent_pipes:
                with contextlib.suppress(OSError):
                    pipe.send(("close", None))
        self._at_exit.cancel()
        end(self.processes, 0.0 if terminate else _CLOSE_SECONDS)
        for pipe in self.parent_pipes:
            pipe.close()


class _Spaces(gymnasium.Env):
    """Stands for an instance where only its spaces are asked for."""

    def __init__(self, observation_space: Space, action_space: Space):
        self.observation_space, self.action_space = observation_space, action_space
        self.metadata = {}


# What follows runs in the processes.


def _describe(make: Make) -> tuple[Space, Space, tuple[str, ...]]:
    with contextlib.closing(make()) as env:
        return env.observation_space, env.action_space, action_names(env)


def _host(make, index, _, pipe, parent_pipe, shared_memory, error_queue, autoreset_mode) -> None:
    """The work of an instance's process, with the arguments and answers that AsyncVectorEnv lays down."""
    end_with_parent()
    parent_pipe.close()
    try:
        env = make()
        pipe.send("made")
        try:
            for command, data in iter(pipe.recv, ("close", None)):
                if command == "reset":
                    observation, _ = env.reset(**data)
                    answer: tuple = None, {}
                else:
                    observation, reward, terminated, truncated, _ = env.step(data)
                    if terminated or truncated:
                        observation, _ = env.reset()
                    answer = None, float(reward), bool(terminated), bool(truncated), {}
                write_to_shared_memory(env.observation_space, index, observation, shared_memory)
                pipe.send((answer, True))
        finally:
            env.close()
    except (EOFError, BrokenPipeError):
        pass  # The parent is gone.
    except Exception as error:
        error_queue.put((index, type(error).__name__, _text(error), ""))
        sys.exit(1)


def _text(error: Exception) -> str:
    return one_line(error)[:_MESSAGE_LENGTH]

"""The policy for environments in other processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf
import tree

from impala_tf.acting.actor import Clock, Policy, shares
from impala_tf.networks.agent import Agent
from impala_tf.structures import EnvironmentOutput, EnvironmentSpec, agent_input
from impala_tf.transport.writer import UnrollWriter
from impala_tf.acting.unrolls import Unrolls

_WAIT_SECONDS = 0.2
# At most so many unrolls may be on their way into a full queue before acting stops; all of them are policy lag.
_MOST_UNCONFIRMED = 64


class Mailbox(Protocol):
    """What `PolicyMailbox` and `WorkerPool` have in common."""

    environment: EnvironmentSpec
    num_workers: int
    num_envs: int

    def open(self) -> None:
        """Called once, before anything below."""

    def take(self, timeout: float) -> list[tuple[int, int, EnvironmentOutput]]:
        """(worker, start, output) of all that have answered, after at most `timeout` seconds."""

    def answer(self, worker: int, start: int, action: np.ndarray) -> None:
        """Sends actions."""


class _Drawn(NamedTuple):
    """What a group was told to do, to be recorded with what comes of it."""

    action: np.ndarray
    logits: np.ndarray
    learner_step: int


class _Group:
    """The environments of one worker, and their unrolls."""

    def __init__(self, unrolls: Unrolls, initial_state: Any):
        self.unrolls, self._initial_state = unrolls, initial_state
        self.start, self.core_state = 0, initial_state
        self.drawn: _Drawn | None = None

    def restart(self, start: int) -> None:
        """Another worker has taken over: what was collected is not continued."""
        self.start, self.core_state, self.drawn = start, self._initial_state, None

    def record(self, output: EnvironmentOutput) -> None:
        """Adds what the environments answered to the unrolls."""
        if self.drawn is None:
            self.unrolls.begin(output, self.core_state)
        else:
            self.unrolls.append(output, *self.drawn)


class DynamicBatching:
    """Acts in the environments of all workers and collects their unrolls, in `run` or from `start` to `stop`.

    The policy runs for all groups whose environments have answered when it is free, in one batch: no group waits for
    another. Parameters may change in the middle of an unroll, as `refresh` brings them; the unroll says where.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        agent: Agent,
        writer: UnrollWriter,
        refresh: Callable[[], int],
        unroll_length: int,
        task_ids: Sequence[Any],
        seed: int,
        say: Callable[[str], None],
        log_interval: float,
    ):
        """Allocates the unrolls.

        Args:
          mailbox: to the workers.
          agent: its variables are what `refresh` overwrites.
          writer: takes the finished unrolls.
          refresh: brings the agent's variables up to date and returns the learner step that made them; called before
            every policy step.
          unroll_length: T, in agent steps.
          task_ids: for each worker, the task of each of its environments, int32 [B], or the one of all.
          seed: of the actions.
          say: told every `log_interval` seconds what the time goes to.
          log_interval: in seconds.
        """
        self._mailbox, self._writer, self._refresh = mailbox, writer, refresh
        self._say, self._log_interval = say, log_interval
        self._num_envs = mailbox.num_envs
        # One of each environment, as where all are stepped together.
        self._unconfirmed = min(mailbox.num_workers * mailbox.num_envs, _MOST_UNCONFIRMED)
        self._policy = Policy(agent, seed)
        initial = tree.map_structure(np.asarray, agent.initial_state(self._num_envs))
        self._groups = [
            _Group(Unrolls(mailbox.environment, agent.core_state_spec, self._num_envs, unroll_length, tasks), initial)
            for tasks in task_ids
        ]
        self._seconds = dict.fromkeys(("environment", "variables", "inference", "writer", "queue"), 0.0)
        self._policy_steps = self._group_steps = 0
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run_and_keep_error, name="dynamic-batching", daemon=True)

    def start(self) -> None:
        """Starts acting in a thread."""
        self._thread.start()

    def check(self) -> None:
        """Raises what ended the thread, if something did."""
        if self._error is not None:
            raise self._error

    def stop(self, timeout: float) -> None:
        """Ends the thread; waits at most `timeout` seconds for that."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def run(self, ready: Callable[[], None] | None = None) -> None:
        """Acts until it is stopped; `ready` is called when the first unrolls have been taken."""
        self._mailbox.open()
        start = reported = time.monotonic()
        while not self._stop.is_set():
            wrote = self._serve(Clock(self._seconds))
            if wrote and ready is not None:
                ready()
                ready = None
            if time.monotonic() - reported > self._log_interval:
                reported = time.monotonic()
                batch = self._num_envs * self._group_steps / max(self._policy_steps, 1)
                spent = shares(self._seconds, reported - start)
                self._say(f"{batch:.1f} environments a batch: {spent}")

    def _run_and_keep_error(self) -> None:
        try:
            self.run()
        except Exception as error:  # raised again on the training thread
            self._error = error

    def _serve(self, clock: Clock) -> bool:
        """One policy step for all groups that wait; whether it has finished an unroll."""
        waiting = self._mailbox.take(_WAIT_SECONDS)
        clock.lap("environment")
        if not waiting:
            return False
        learner_step = self._refresh()
        clock.lap("variables")
        for worker, start, _ in waiting:
            if start != self._groups[worker].start:
                self._groups[worker].restart(start)
        groups, outputs = [self._groups[worker] for worker, _, _ in waiting], [output for _, _, output in waiting]
        zeros = np.zeros(self._num_envs, np.int32)
        last_actions = np.concatenate([zeros if group.drawn is None else group.drawn.action for group in groups])
        before = [group.core_state for group in groups]
        action, logits, state = self._policy(agent_input(_joined(outputs), last_actions), _joined(before))
        state = tree.map_structure(np.asarray, state)
        rows = [slice(i * self._num_envs, (i + 1) * self._num_envs) for i in range(len(groups))]
        for (worker, start, _), its in zip(waiting, rows):
            self._mailbox.answer(worker, start, action[its])
        self._policy_steps += 1
        self._group_steps += len(groups)
        clock.lap("inference")
        # The rest is done while the environments step.
        wrote = False
        for group, output, core_state, its in zip(groups, outputs, before, rows):
            group.record(output)
            group.drawn = _Drawn(action[its], logits[its], learner_step)
            group.core_state = tree.map_structure(lambda x: x[its], state)  # noqa: B023
            if group.unrolls.finished:
                for unroll in group.unrolls.take(core_state):
                    self._writer.write(unroll)
                    wrote = True
        clock.lap("writer")
        while not self._writer.flush(_WAIT_SECONDS, unconfirmed=self._unconfirmed) and not self._stop.is_set():
            pass  # Back-pressure: the queue is full.
        clock.lap("queue")
        return wrote


class LocalVariables:
    """Parameters on their way from the learner to a policy in the same process: no copy leaves it."""

    def __init__(self, learner: Sequence[tf.Variable], policy: Sequence[tf.Variable]):
        """Args: the variables to copy from and those to overwrite, in the same order."""
        self._learner, self._policy = list(learner), list(policy)
        self._copy = tf.function(lambda: [tf.identity(v) for v in self._learner], autograph=False)
        self._newest: tuple[int, list[tf.Tensor]] | None = None
        self._held: tuple[int, list[tf.Tensor]] | None = None

    def publish(self, learner_step: int) -> None:
        """Takes a copy of the learner's variables, between two updates, as those of `learner_step`."""
        self._newest = (learner_step, self._copy())

    def refresh(self) -> int:
        """Overwrites the policy's variables, from its own thread, and returns the learner step that made them."""
        newest = self._newest
        assert newest is not None, "publish comes first"
        if newest is not self._held:
            for variable, value in zip(self._policy, newest[1]):
                variable.assign(value)
            self._held = newest
        return newest[0]

    def stop(self) -> None:
        """Nothing to do; a `VariablePublisher` has."""


def _joined(nests: Sequence[Any]) -> Any:
    """Nests of arrays [B, ...], one behind the other."""
    return nests[0] if len(nests) == 1 else tree.map_structure(lambda *arrays: np.concatenate(arrays), *nests)

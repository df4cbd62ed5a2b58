"""Plays episodes with a saved policy, several at once, each with its own seed.

Every episode gets a new environment, made with the episode's seed, and draws its actions from a generator that follows
from the same seed. An episode can therefore be replayed alone, and its result does not depend on the episodes played
alongside it, except for rounding. Episodes are numbered in advance and all of them count: counting the first ones to
finish would favor short episodes.
"""

from __future__ import annotations

import collections
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple, Protocol

import numpy as np
import tree

from impala_tf.environments.base import BatchedEnvironment
from impala_tf.errors import UserError, one_line
from impala_tf.export.saved_model import Step
from impala_tf.structures import AgentInput, EnvironmentOutput, agent_input

_LOGGER = logging.getLogger(__name__)
_ATTEMPTS = 3
_POLL_SECONDS = 0.25

FINAL, IN_TRAINING = 1, 2
"""What a sequence of episodes is for. Each has seeds of its own: an agent that was chosen by its evaluations in
training is not evaluated on the same games again."""
_ACTIONS = 0  # Separates the generator of the actions from the environment's, which may be made from the same seed.


class TaskFailed(UserError):
    """A task cannot be played: its environment cannot be made, or keeps failing. Other tasks may work."""


class Policy(Protocol):
    """What plays; `SavedPolicy` documents the methods."""

    def initial_state(self, batch_size: int) -> dict[str, np.ndarray]: ...

    def step(self, inputs: AgentInput, core_state: dict[str, np.ndarray]) -> Step: ...


class RandomPolicy:
    """All actions are equally probable.

    Args:
      num_actions: A.
    """

    def __init__(self, num_actions: int):
        self._num_actions = num_actions

    def initial_state(self, batch_size: int) -> dict[str, np.ndarray]:
        """Returns no state."""
        return {}

    def step(self, inputs: AgentInput, core_state: dict[str, np.ndarray]) -> Step:
        """Returns equal logits, float32 [B, A]."""
        batch_size = len(inputs.last_action)
        return Step(np.zeros((batch_size, self._num_actions), np.float32), np.zeros(batch_size, np.float32), {})


class Episode(NamedTuple):
    """The result of a finished episode.

    Attributes:
      number: index of the episode, from 0.
      seed: the seed given to `environments.make`.
      episode_return: undiscounted, unclipped return of the full game.
      length: length of the full game in agent steps.
    """

    number: int
    seed: int
    episode_return: float
    length: int


class Moment(NamedTuple):
    """One step of a watched episode, after the policy has chosen its action; and the episode's end.

    Attributes:
      number: index of the episode.
      environment: a batch of one environment.
      logits: float32 [A].
      value: V(x_t).
      action: the chosen action.
      reward: the reward that came with x_t.
      episode_return: the sum of the rewards so far.
      step: agent steps so far.
      ended: the episode has ended: there is no next action. Logits, value and action are those of the step before, and
        the environment's picture may be of another episode.
    """

    number: int
    environment: BatchedEnvironment
    logits: np.ndarray
    value: float
    action: int
    reward: float
    episode_return: float
    step: int
    ended: bool


def seed_of(seed: int, number: int, purpose: int = FINAL) -> int:
    """Returns the seed of an episode, in [0, 2^31).

    Training derives its seeds without a spawn key, and so from other sequences than these.

    Args:
      seed: seed of the evaluation.
      number: index of the episode.
      purpose: `FINAL` or `IN_TRAINING`.
    """
    return int(np.random.SeedSequence(seed, spawn_key=(purpose, number)).generate_state(1)[0] >> 1)


class _Player:
    """Plays one episode: its environment, core state and random generator."""

    def __init__(self, number: int, seed: int, environment: BatchedEnvironment, policy: Policy):
        self.number, self.seed, self.environment = number, seed, environment
        self.core_state = policy.initial_state(1)
        self._random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_ACTIONS,)))
        self.inputs = agent_input(environment.reset(), np.zeros(1, np.int32))
        self.step, self.so_far = 0, 0.0

    def choose(self, logits: np.ndarray, greedy: bool) -> np.ndarray:
        """Chooses an action, int [1]: the most probable one if greedy, otherwise sampled by the Gumbel-max trick."""
        return np.argmax(logits if greedy else logits + self._random.gumbel(size=logits.shape), keepdims=True)

    def take(self, output: EnvironmentOutput, action: np.ndarray) -> Episode | None:
        """Handles the environment's output for an action; returns the result if the episode has ended."""
        self.inputs = agent_input(output, action.astype(np.int32))
        self.step += 1
        self.so_far += float(output.reward[0])
        if not output.episode_length[0]:
            return None
        return Episode(self.number, self.seed, float(output.episode_return[0]), int(output.episode_length[0]))

    def moment(self, answer: Step, i: int, action: np.ndarray, ended: bool) -> Moment:
        """Returns what a watcher sees; `i` is this episode's place in the policy's answer."""
        reward, value = float(self.inputs.last_reward[0]), float(answer.value[i])
        shown = answer.logits[i], value, int(action[0]), reward, self.so_far, self.step
        return Moment(self.number, self.environment, *shown, ended)


def play(
    policy: Policy,
    make: Callable[[int], BatchedEnvironment],
    seed_of: Callable[[int], int],
    numbers: Iterable[int],
    num_envs: int,
    *,
    label: str,
    greedy: bool,
    add: Callable[[Episode], None],
    go_on: Callable[[int], bool],
    watch: Callable[[Moment], None] | None = None,
) -> None:
    """Plays episodes. An episode that fails is logged and replayed.

    Args:
      policy: the policy to play.
      make: takes an episode's seed and returns its environment, a batch of one. Called in threads, because making an
        environment and resetting it for the first time may take long.
      seed_of: takes an episode's number and returns its seed.
      numbers: the numbers of the episodes to play.
      num_envs: number of episodes played at once.
      label: names the task in messages.
      greedy: take the most probable action instead of sampling.
      add: called with every finished episode.
      go_on: called between steps with the number of agent steps taken in all episodes; once it returns False, the
        episodes in progress are abandoned.
      watch: called at every step of every episode and at its end.

    Raises:
      TaskFailed: an environment cannot be made, or an episode failed three times.
      UserError: the policy's output is not finite.
    """
    waiting = collections.deque(numbers)
    attempts: collections.Counter[int] = collections.Counter()
    starting: dict[Future[_Player], int] = {}
    playing: list[_Player] = []
    steps = 0

    def start(number: int) -> _Player:
        environment = make(seed_of(number))
        try:
            return _Player(number, seed_of(number), environment, policy)
        except BaseException:
            environment.close()
            raise

    def failed(number: int, error: Exception) -> None:
        if not go_on(steps):
            return  # What ends the evaluation may also have ended the environment.
        attempts[number] += 1
        if attempts[number] == _ATTEMPTS:
            raise TaskFailed(f"{label}: episode {number} failed {_ATTEMPTS} times ({one_line(error)})") from None
        _LOGGER.warning("%s: episode %d failed (%s); it will be replayed", label, number, one_line(error))
        waiting.append(number)

    pool = ThreadPoolExecutor(num_envs, thread_name_prefix="episode")
    try:
        while (waiting or starting or playing) and go_on(steps):
            while waiting and len(starting) + len(playing) < num_envs:
                number = waiting.popleft()
                starting[pool.submit(start, number)] = number
            # Wait for new episodes only if there is none to step.
            done = wait(starting, 0 if playing else _POLL_SECONDS, FIRST_COMPLETED).done if starting else ()
            for future in done:
                number = starting.pop(future)
                try:
                    playing.append(future.result())
                except UserError as error:
                    raise TaskFailed(f"{label}: {error}") from None
                except Exception as error:
                    failed(number, error)
            if playing:
                steps += len(playing)
                _step(policy, playing, greedy, add, failed, watch, pool)
    finally:
        for player in playing:
            pool.submit(player.environment.close)
        for future in starting:
            if not future.cancel():
                future.add_done_callback(_close_started)
        pool.shutdown()


def _step(policy, playing, greedy, add, failed, watch, pool) -> None:
    """Steps all episodes in `playing` once; removes and closes those that end, so that each is closed exactly once."""
    inputs: AgentInput = _concatenate([player.inputs for player in playing])
    answer = policy.step(inputs, _concatenate([player.core_state for player in playing]))
    actions, broken = [], {}
    for i, player in enumerate(playing):
        player.core_state = {name: array[i : i + 1] for name, array in answer.core_state.items()}
        actions.append(player.choose(answer.logits[i], greedy))
        if watch:
            watch(player.moment(answer, i, actions[i], ended=False))
        try:
            player.environment.send(actions[i])
        except Exception as error:
            broken[i] = error
    for i, player in enumerate(list(playing)):
        try:
            if i in broken:
                raise broken[i]
            episode = player.take(player.environment.receive(), actions[i])
            if episode is None:
                continue
        except Exception as error:
            _leave(player, playing, pool)
            failed(player.number, error)
        else:
            if watch:
                watch(player.moment(answer, i, actions[i], ended=True))
            _leave(player, playing, pool)
            add(episode)


def _leave(player, playing, pool) -> None:
    playing.remove(player)
    pool.submit(player.environment.close)  # In a thread, because ending a process takes a while.


def _concatenate(parts: list[Any]) -> Any:
    """Concatenates nests of arrays along the first axis."""
    return tree.map_structure(lambda *arrays: np.concatenate(arrays), *parts)


def _close_started(future: Future[_Player]) -> None:
    if not future.cancelled() and future.exception() is None:
        future.result().environment.close()

"""Plays episodes with a saved policy, several at once, each with its own seed.

Every episode gets a new environment, made with the episode's seed, and draws its actions from a generator with the same
seed. An episode can therefore be replayed alone, and its result does not depend on the episodes played alongside it,
except for rounding. Episodes are numbered in advance and all of them count: counting the first ones to finish would
favor short episodes.
"""

from __future__ import annotations

import collections
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import numpy as np
import tree

from impala_tf.environments.base import BatchedEnvironment
from impala_tf.errors import UserError, one_line
from impala_tf.export.saved_model import SavedPolicy
from impala_tf.structures import AgentInput, EnvironmentOutput, agent_input

_LOGGER = logging.getLogger(__name__)
_ATTEMPTS = 3
_POLL_SECONDS = 0.25


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
    """One step of a watched episode, after the policy has chosen its action.

    Attributes:
      environment: a batch of one environment.
      logits: float32 [A].
      value: V(x_t).
      action: the chosen action.
      reward: the reward that came with x_t.
      episode_return: the sum of the rewards so far.
      step: agent steps so far.
    """

    environment: BatchedEnvironment
    logits: np.ndarray
    value: float
    action: int
    reward: float
    episode_return: float
    step: int


def seed_of(seed: int, number: int) -> int:
    """Returns the seed of an episode, in [0, 2^31)."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0] >> 1)


class _Player:
    """Plays one episode: its environment, core state and random generator."""

    def __init__(self, number: int, seed: int, environment: BatchedEnvironment, policy: SavedPolicy):
        self.number, self.seed, self.environment = number, seed, environment
        self.core_state = policy.initial_state(1)
        self._random = np.random.default_rng(seed)
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


def play(
    policy: SavedPolicy,
    make: Callable[[int, int], BatchedEnvironment],
    seed: int,
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
      make: takes an episode's number and seed and returns its environment, a batch of one. Called in threads, because
        making an environment and resetting it for the first time may take long.
      seed: the seed from which the episodes' seeds are derived.
      numbers: the numbers of the episodes to play.
      num_envs: number of episodes played at once.
      label: names the task in messages.
      greedy: take the most probable action instead of sampling.
      add: called with every finished episode.
      go_on: called between steps with the number of agent steps taken in all episodes; once it returns False, the
        episodes in progress are abandoned.
      watch: called at every step of episode 0.

    Raises:
      UserError: the policy's output is not finite, an environment cannot be made, or an episode failed three times.
    """
    waiting = collections.deque(numbers)
    attempts: collections.Counter[int] = collections.Counter()
    starting: dict[Future[_Player], int] = {}
    playing: list[_Player] = []
    steps = 0

    def start(number: int) -> _Player:
        environment = make(number, seed_of(seed, number))
        try:
            return _Player(number, seed_of(seed, number), environment, policy)
        except BaseException:
            environment.close()
            raise

    def failed(number: int, error: Exception) -> None:
        attempts[number] += 1
        if attempts[number] == _ATTEMPTS:
            raise UserError(
                f"{label}: episode {number} failed {_ATTEMPTS} times ({one_line(error)}). Finished episodes are kept."
            ) from None
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
                except UserError:
                    raise
                except Exception as error:
                    failed(number, error)
            if playing:
                steps += len(playing)
                _step(policy, playing, greedy, add, failed, watch, pool)
    finally:
        for player in playing:
            player.environment.close()
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
        if watch and player.number == 0:
            action, reward = int(actions[i][0]), float(player.inputs.last_reward[0])
            value = float(answer.value[i])
            watch(Moment(player.environment, answer.logits[i], value, action, reward, player.so_far, player.step))
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

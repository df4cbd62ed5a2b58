"""Plays episodes with a saved policy, several at once, each with a seed of its own.

Every episode is an environment of its own, made with the episode's seed, and its actions are drawn by a generator of
that seed: an episode can be played again by itself, and which others are played beside it makes no difference but for
rounding. Episodes are numbered beforehand and all of them count: to count those that end first would prefer short ones.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import numpy as np
import tree

from impala_tf.environments.base import BatchedEnvironment
from impala_tf.errors import UserError, one_line
from impala_tf.export.saved_model import SavedPolicy
from impala_tf.structures import AgentInput, EnvironmentOutput, agent_input

_ATTEMPTS = 3
_POLL_SECONDS = 0.25


class Episode(NamedTuple):
    """One that has ended.

    Attributes:
      number: from 0.
      seed: with which `environments.make` made it.
      episode_return: undiscounted, unclipped, of the full game.
      length: of the full game, agent steps.
    """

    number: int
    seed: int
    episode_return: float
    length: int


class Moment(NamedTuple):
    """One step of a watched episode, at the time that the policy has chosen its action.

    Attributes:
      environment: of one instance.
      logits: float32 [A].
      value: V(x_t).
      action: chosen.
      reward: that came with x_t.
      episode_return: so far.
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
    """The seed of an episode, in [0, 2^31)."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0] >> 1)


class _Seat:
    """An episode that is being played."""

    def __init__(self, number: int, seed: int, environment: BatchedEnvironment, policy: SavedPolicy):
        self.number, self.seed, self.environment = number, seed, environment
        self.core_state = policy.initial_state(1)
        self._random = np.random.default_rng(seed)
        self.inputs = agent_input(environment.reset(), np.zeros(1, np.int32))
        self.step, self.so_far = 0, 0.0

    def choose(self, logits: np.ndarray, greedy: bool) -> np.ndarray:
        """int32 [1]; drawn by the Gumbel-max trick unless greedy."""
        return np.argmax(logits if greedy else logits + self._random.gumbel(size=logits.shape), keepdims=True)

    def take(self, output: EnvironmentOutput, action: np.ndarray) -> Episode | None:
        """Takes what the environment answered; returns the episode if that was its end."""
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
    greedy: bool,
    add: Callable[[Episode], None],
    go_on: Callable[[int], bool],
    warn: Callable[[str], None],
    watch: Callable[[Moment], None] | None = None,
) -> None:
    """Plays episodes.

    Args:
      policy: to be played.
      make: takes an episode's number and seed; makes its environment, of one instance. Called in threads: making one
        and its first reset may take long, and the others go on.
      seed: from which those of the episodes come.
      numbers: of the episodes.
      num_envs: how many are played at once.
      greedy: takes the most probable action instead of drawing one.
      add: takes an episode that has ended.
      go_on: asked between steps, and told how many agent steps all episodes have taken; where it says no, those
        under way are given up.
      warn: told of episodes that fail, and are played again.
      watch: sees every step of episode 0.

    Raises:
      UserError: the policy is not finite, an environment cannot be made, or an episode fails again and again.
    """
    waiting = collections.deque(numbers)
    attempts: collections.Counter[int] = collections.Counter()
    starting: dict[Future[_Seat], int] = {}
    playing: list[_Seat] = []
    steps = 0

    def start(number: int) -> _Seat:
        environment = make(number, seed_of(seed, number))
        try:
            return _Seat(number, seed_of(seed, number), environment, policy)
        except BaseException:
            environment.close()
            raise

    def failed(number: int, error: Exception) -> None:
        attempts[number] += 1
        message = f"episode {number} failed ({one_line(error)})"
        if attempts[number] == _ATTEMPTS:
            raise UserError(f"{message}, for the {_ATTEMPTS}rd time; the episodes that have ended are kept.") from None
        warn(f"{message}; it is played again")
        waiting.append(number)

    pool = ThreadPoolExecutor(num_envs, thread_name_prefix="episode")
    try:
        while (waiting or starting or playing) and go_on(steps):
            while waiting and len(starting) + len(playing) < num_envs:
                number = waiting.popleft()
                starting[pool.submit(start, number)] = number
            # With nothing to play there is nothing to do but wait.
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
        for seat in playing:
            seat.environment.close()
        for future in starting:
            if not future.cancel():
                future.add_done_callback(_close_started)
        pool.shutdown()


def _step(policy, playing, greedy, add, failed, watch, pool) -> None:
    """One step of all who are playing; who has come to an end is taken off the list, and so closed once."""
    inputs: AgentInput = _joined([seat.inputs for seat in playing])
    answer = policy.step(inputs, _joined([seat.core_state for seat in playing]))
    actions, broken = [], {}
    for i, seat in enumerate(playing):
        seat.core_state = {name: array[i : i + 1] for name, array in answer.core_state.items()}
        actions.append(seat.choose(answer.logits[i], greedy))
        if watch and seat.number == 0:
            action, reward = int(actions[i][0]), float(seat.inputs.last_reward[0])
            value = float(answer.value[i])
            watch(Moment(seat.environment, answer.logits[i], value, action, reward, seat.so_far, seat.step))
        try:
            seat.environment.send(actions[i])
        except Exception as error:
            broken[i] = error
    for i, seat in enumerate(list(playing)):
        try:
            if i in broken:
                raise broken[i]
            episode = seat.take(seat.environment.receive(), actions[i])
            if episode is None:
                continue
        except Exception as error:
            _leave(seat, playing, pool)
            failed(seat.number, error)
        else:
            _leave(seat, playing, pool)
            add(episode)


def _leave(seat, playing, pool) -> None:
    playing.remove(seat)
    pool.submit(seat.environment.close)  # To end a process takes a while.


def _joined(parts: list[Any]) -> Any:
    return tree.map_structure(lambda *arrays: np.concatenate(arrays), *parts)


def _close_started(future: Future[_Seat]) -> None:
    if not future.cancelled() and future.exception() is None:
        future.result().environment.close()

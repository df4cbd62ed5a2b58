"""The structures that travel between environment, actor, Reverb and learner.

This file is the data contract: every other module knows its neighbours only through these types.

Alignment: *the action that led to an observation*. Entry t of an unroll holds the observation x_t, and with it what
happened on the way there: the action a_{t-1} that led to x_t, the logits of the behaviour policy mu(. | x_{t-1}) that
it was drawn from, and the reward and the end-of-episode flags of that transition. An entry is therefore complete as
soon as the environment has answered, and the last reward and last action that a recurrent agent takes as inputs stand
in the same entry as the observation.

Overlap: an unroll of length T has T + 1 entries, and entry 0 of unroll k + 1 is entry T of unroll k. The transitions
of an unroll are entries 1..T; observation T only supplies the bootstrap value V(x_T) (IMPALA, section 4.1).

Automatic reset: where the transition into entry t ended the episode (`terminated` or `truncated`), x_t is already the
first observation of the next episode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class ArraySpec(NamedTuple):
    """Shape (without batch or time) and dtype of one array."""

    shape: tuple[int, ...]
    dtype: np.dtype


def map_spec(function: Callable[[ArraySpec], Any], spec: Any) -> Any:
    """Maps over a nest whose leaves are `ArraySpec`s: themselves tuples, which other maps would take apart."""
    if isinstance(spec, ArraySpec):
        return function(spec)
    if isinstance(spec, dict):
        return {key: map_spec(function, value) for key, value in spec.items()}
    return tuple(map_spec(function, value) for value in spec)


class EnvironmentSpec(NamedTuple):
    """What an environment looks like to an agent.

    Attributes:
      observation: an `ArraySpec`, or {"image": `ArraySpec`, "instruction": `instructions.SPEC`} where text comes with
        what is seen; "image" may then also be a vector.
      num_actions: number of discrete actions.
      frames_per_step: environment frames per agent step (the action repeat).
      frame_stack: the observation is a uint8 image whose 4 channels are successive frames in grey, the newest last.
        Where a game has just begun (`episode_length` is not 0), the channels before the newest are 0.
      action_names: one short name for each action, in their order; () where nothing names them. For who looks on:
        environments whose actions have other names look the same to an agent.
    """

    observation: Any
    num_actions: int
    frames_per_step: int
    frame_stack: bool = False
    action_names: tuple[str, ...] = ()


class EnvironmentOutput(NamedTuple):
    """One step of a batch of B environments: numpy arrays with leading dimension [B].

    Attributes:
      observation: x_t, [B, ...], dtype of the spec. Images are [height, width, channels], uint8.
      reward: float32 [B], as the environment gave it: neither clipped nor discounted.
      terminated: bool [B], the transition into x_t ended the episode and its future return is 0. With life loss ending
        episodes for learning, also the loss of a life.
      truncated: bool [B], the transition into x_t was cut by a time limit: the future return is unknown, not 0.
      episode_return: float32 [B], undiscounted, unclipped return of the full game (all lives) that ended in this
        step; 0 where none did.
      episode_length: int32 [B], agent steps of that full game; 0 where none ended. -1 where the environment failed and
        this is no answer to the action; where it has been started again, x_t is the first observation of an episode,
        and `truncated` is set.
    """

    observation: Any
    reward: Any
    terminated: Any
    truncated: Any
    episode_return: Any
    episode_length: Any


class Trajectory(NamedTuple):
    """An unroll of one environment: [T + 1, ...] as an actor writes it, time-major [T + 1, B, ...] in the learner.

    Attributes:
      observation, reward, terminated, truncated, episode_return, episode_length: as in `EnvironmentOutput`.
      action: int32 [T + 1], a_{t-1}, the action that led to x_t.
      behaviour_logits: float32 [T + 1, num_actions], unnormalised log mu(. | x_{t-1}) that it was drawn from.
      learner_step: int64 [T + 1], learner step of the parameters that drew it.
      core_state: nest of float32 [...], the core's recurrent state before x_0; no time dimension ([B, ...] in the
        learner). Empty for a feed-forward agent.
      task_id: int32 [], which of the run's tasks the environment belongs to; no time dimension.
    """

    observation: Any
    reward: Any
    terminated: Any
    truncated: Any
    episode_return: Any
    episode_length: Any
    action: Any
    behaviour_logits: Any
    learner_step: Any
    core_state: Any
    task_id: Any


class AgentInput(NamedTuple):
    """What the agent sees at each step; leading dimensions [T, B] (or [B] in `Agent.step`).

    Attributes:
      observation: x_t, as in `EnvironmentOutput`.
      last_reward: float32, the reward that came with x_t, unclipped.
      last_action: int32, a_{t-1}.
      episode_start: bool, x_t is the first observation of an episode: the core state is reset before x_t is read.
    """

    observation: Any
    last_reward: Any
    last_action: Any
    episode_start: Any


def agent_input(output: EnvironmentOutput, last_action: np.ndarray) -> AgentInput:
    """What the agent sees where the environments answered `output`, [B, ...], to `last_action`, int32 [B]."""
    return AgentInput(output.observation, output.reward, last_action, output.terminated | output.truncated)


class AgentOutput(NamedTuple):
    """The agent's answer, with the leading dimensions of its input.

    Attributes:
      logits: float32 [..., num_actions], unnormalised log pi(. | x_t).
      value: float32 [...], V(x_t).
    """

    logits: Any
    value: Any

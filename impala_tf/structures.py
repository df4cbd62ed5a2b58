"""The structures that travel between environment, actor, Reverb and learner.

This file is the data contract: every other module knows its neighbors only through these types.

Alignment: *the action that led to an observation*. Entry t of an unroll holds the observation x_t together with the
transition that led to it: the action a_{t-1}, the logits of the behavior policy mu(. | x_{t-1}) from which that action
was drawn, the reward and the end-of-episode flags. An entry is therefore complete as soon as the environment has
answered, and it holds everything a recurrent agent reads at x_t: the observation, the last reward and the last action.

Overlap: an unroll of length T has T + 1 entries, and entry 0 of unroll k + 1 is entry T of unroll k. The transitions
of an unroll are entries 1..T; observation T only supplies the bootstrap value V(x_T) (IMPALA, section 4.1).

Automatic reset: if the transition into entry t ended the episode (`terminated` or `truncated`), x_t is already the
first observation of the next episode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class ArraySpec(NamedTuple):
    """Shape and dtype of one array; the shape has no batch dimension."""

    shape: tuple[int, ...]
    dtype: np.dtype


def map_spec(function: Callable[[ArraySpec], Any], spec: Any) -> Any:
    """Maps `function` over a nest whose leaves are `ArraySpec`s, and returns the same nest of the results.

    An `ArraySpec` is itself a tuple, which generic maps such as `tf.nest.map_structure` would take apart.

    Args:
      function: called with each `ArraySpec`.
      spec: nest of tuples, named tuples and dicts.
    """
    if isinstance(spec, ArraySpec):
        return function(spec)
    if isinstance(spec, dict):
        return {key: map_spec(function, value) for key, value in spec.items()}
    mapped = (map_spec(function, value) for value in spec)
    return type(spec)(*mapped) if hasattr(spec, "_fields") else tuple(mapped)


class EnvironmentSpec(NamedTuple):
    """What an agent needs to know about an environment.

    Attributes:
      observation: an `ArraySpec`; or {"image": `ArraySpec`, "instruction": `instructions.SPEC`} for environments that
        also give an instruction as text, where "image" may also be a vector.
      num_actions: number of discrete actions.
      frames_per_step: environment frames per agent step (the action repeat).
      frame_stack: whether the observation is a uint8 image whose 4 channels are successive gray frames, the newest
        last. At the start of a game (`episode_length` is not 0), the channels before the newest are 0.
      action_names: a short name for each action, in order; () if the actions have no names. For display only; agents
        ignore them.
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
      terminated: bool [B], the transition into x_t ended the episode, and its future return is 0. This includes the
        loss of a life if lives end episodes for learning.
      truncated: bool [B], a time limit cut the episode at the transition into x_t: the future return is unknown, not 0.
      episode_return: float32 [B], undiscounted, unclipped return of the full game (all lives) that ended in this
        step; 0 if none did.
      episode_length: int32 [B], agent steps of that full game; 0 if none ended. -1 if the environment failed and this
        entry does not answer the action; once the environment has been restarted, x_t is the first observation of an
        episode and `truncated` is set.
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
      behaviour_logits: float32 [T + 1, num_actions], unnormalized log mu(. | x_{t-1}) from which it was drawn.
      learner_step: int64 [T + 1], learner step of the parameters that drew it.
      core_state: nest of float32 [...], the core's recurrent state before x_0; no time dimension ([B, ...] in the
        learner). Empty for a feed-forward agent.
      task_id: int32 [], index of the environment's task among the run's tasks; no time dimension.
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


def trajectory_spec(environment: EnvironmentSpec, core_state_spec: Any, unroll_length: int) -> Trajectory:
    """Returns the `ArraySpec`s of one unroll as an actor writes it, with T + 1 entries and no batch dimension.

    Args:
      environment: spec of the environment.
      core_state_spec: nest of `ArraySpec`, the core state of one environment.
      unroll_length: T, in agent steps.
    """
    entries = unroll_length + 1

    def per_entry(dtype: Any, *shape: int) -> ArraySpec:
        return ArraySpec((entries, *shape), np.dtype(dtype))

    return Trajectory(
        observation=map_spec(lambda array: per_entry(array.dtype, *array.shape), environment.observation),
        reward=per_entry(np.float32),
        terminated=per_entry(np.bool_),
        truncated=per_entry(np.bool_),
        episode_return=per_entry(np.float32),
        episode_length=per_entry(np.int32),
        action=per_entry(np.int32),
        behaviour_logits=per_entry(np.float32, environment.num_actions),
        learner_step=per_entry(np.int64),
        core_state=core_state_spec,
        task_id=ArraySpec((), np.dtype(np.int32)),
    )


class Batch(NamedTuple):
    """What the learner draws for one update.

    Attributes:
      unrolls: time-major [T + 1, B, ...].
      fresh: bool [B], whether the unroll is sampled for the first time, as opposed to replayed. Frames, returns,
        episodes and policy lag are counted over fresh unrolls only.
    """

    unrolls: Trajectory
    fresh: Any


class Contribution(NamedTuple):
    """What a worker of A3C sends for one update: one unroll of each of its environments, and what it learned from them.

    Attributes:
      worker: int32 [], number of the worker.
      ticket: int64 [], positive; no other contribution to the run has the same.
      gradients: `impala_tf.learning.gradients.Gradients` of the unrolls.
      unrolls: time-major [T + 1, B, ...]; only what the logs need, see `logged`.
      played: bool [B], whether the unroll is there. If an environment failed, its unroll was dropped.
    """

    worker: Any
    ticket: Any
    gradients: Any
    unrolls: Trajectory
    played: Any


def logged(unrolls: Trajectory) -> Trajectory:
    """Returns what the logs need of unrolls: returns, lengths, learner steps and tasks. The other fields are ()."""
    kept = ("episode_return", "episode_length", "learner_step", "task_id")
    return unrolls._replace(**{name: () for name in unrolls._fields if name not in kept})


class AgentInput(NamedTuple):
    """What the agent reads at each step; leading dimensions [T, B] ([B] in `Agent.step`).

    Attributes:
      observation: x_t, as in `EnvironmentOutput`.
      last_reward: float32, the reward of the transition into x_t, unclipped.
      last_action: int32, a_{t-1}.
      episode_start: bool, x_t is the first observation of an episode: the core state is reset before x_t is read.
    """

    observation: Any
    last_reward: Any
    last_action: Any
    episode_start: Any


def agent_input(output: EnvironmentOutput, last_action: np.ndarray) -> AgentInput:
    """Builds the agent's input from `output` [B, ...], the environments' answer to `last_action`, int32 [B]."""
    return AgentInput(output.observation, output.reward, last_action, output.terminated | output.truncated)


class AgentOutput(NamedTuple):
    """The agent's answer, with the leading dimensions of its input.

    Attributes:
      logits: float32 [..., num_actions], unnormalized log pi(. | x_t).
      value: float32 [...], V(x_t).
    """

    logits: Any
    value: Any

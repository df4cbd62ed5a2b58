"""The paper's evaluation protocols: the number of episodes and the rules they are played under.

- Atari (section 5.3.2, Table C.1): 200 episodes per game, each a full game with all its lives that starts with 1 to 30
  no-ops and ends after 108,000 frames at the latest.
- DMLab-30 (section 5.3.1, Table B.1): 500 episodes on each of the 30 test levels, with the engine's test settings.

All other environments: 100 episodes. Returns are undiscounted and unclipped. Everything else that shapes a task, such
as sticky actions, is as in training. So are resets of the core state: if losing a life ended an episode during
training, it also resets the core state here, while the game and its return continue.
"""

from __future__ import annotations

from typing import Any, NamedTuple

MACHINE_OPTIONS = ("dmlab_renderer", "dmlab_level_cache", "dmlab_dataset_path")
"""Options of `environments.make` that depend on the machine, not on the task: paths and the renderer."""


class EvaluationProtocol(NamedTuple):
    """How a task is evaluated.

    Attributes:
      env_id: environment id of the task.
      episodes: number of episodes.
      options: options for `environments.make`.
    """

    env_id: str
    episodes: int
    options: dict[str, Any]


def evaluation_protocol(env_id: str, trained_with: dict[str, Any]) -> EvaluationProtocol:
    """Returns the protocol of a task for a policy trained with the environment options `trained_with`."""
    family = env_id.partition("/")[0]
    if family == "atari":
        return EvaluationProtocol(env_id, 200, {**trained_with, "max_frames_per_episode": 108_000})
    if family == "dmlab":
        return EvaluationProtocol(env_id, 500, {"dmlab_test": True})
    return EvaluationProtocol(env_id, 100, {})

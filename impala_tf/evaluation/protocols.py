"""The paper's protocols of evaluation: how many episodes, under which rules.

- Atari (section 5.3.2, Table C.1): 200 episodes of each game, each a full game with all its lives, begun by 1 to 30
  no-ops and ended after 108,000 frames.
- DMLab-30 (section 5.3.1, Table B.1): 500 episodes of each of the 30 levels for testing, with the engine's settings for
  testing.

Others: 100 episodes. Returns are undiscounted and unclipped. What else shapes a task, sticky actions, say, is as it was
in training. So is what resets the core state: where the loss of a life ended an episode for learning, it does so here,
and the game, and its return, go on.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class EvaluationProtocol(NamedTuple):
    """How a task is evaluated.

    Attributes:
      env_id: of the task.
      episodes: how many.
      options: of `environments.make`.
    """

    env_id: str
    episodes: int
    options: dict[str, Any]


def evaluation_protocol(env_id: str, trained_with: dict[str, Any]) -> EvaluationProtocol:
    """The protocol of a task, for a policy that was trained with these options of its environment."""
    family = env_id.partition("/")[0]
    if family == "atari":
        return EvaluationProtocol(env_id, 200, {**trained_with, "max_frames_per_episode": 108_000})
    if family == "dmlab":
        return EvaluationProtocol(env_id, 500, {"dmlab_test": True})
    return EvaluationProtocol(env_id, 100, {})

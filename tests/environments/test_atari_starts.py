"""How Atari games start: no-ops in training and in the paper's evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv

from impala_tf.environments.atari import AtariEnvironment


def test_no_op_starts_vary_and_are_repeatable():
    def starts(seed: int, games: int) -> np.ndarray:
        environment = AtariEnvironment("pong", 4, seed, max_frames_per_episode=1, env_threads=1)
        environment.reset()
        numbers = [environment._frame_number]
        for _ in range(games - 1):
            environment.step(np.zeros(4, np.int32))
            numbers.append(environment._frame_number)
        environment.close()
        return np.stack(numbers)

    noops = starts(0, 40)
    assert noops.min() == 0 and noops.max() == 30  # 160 draws.
    assert len(set(noops[0])) > 2 and min(len(set(column)) for column in noops.T) > 10
    np.testing.assert_array_equal(noops[:4], starts(0, 4))
    assert (noops[:4] != starts(1, 4)).mean() > 0.7


@pytest.mark.slow(4)
@pytest.mark.parametrize(
    "game, fire_on_reset, frames_before",
    # ALE starts Berzerk with a switch that it holds for 20 frames.
    [("pong", False, 0), ("breakout", True, 1), ("berzerk", True, 21)],
)
def test_games_of_an_evaluation_have_1_to_30_no_ops(game: str, fire_on_reset: bool, frames_before: int):
    """With this seed, ALE would start one of the 10 games without a no-op, and it starts another with 30."""
    environment = AtariEnvironment(game, 10, 4, fire_on_reset=fire_on_reset, autoreset=False)
    seeds = environment._seeds.copy()
    environment.reset()
    noops = environment._frame_number - frames_before
    assert noops.min() >= 1 and noops.max() == 30 - fire_on_reset  # ALE's FIRE takes the place of the last one.
    assert len(set(noops)) >= 7
    # ALE would have started those that were drawn again, and no others, without a no-op.
    again = environment._seeds != seeds
    native: Any = AtariVectorEnv(
        game, again.sum(), autoreset_mode="SameStep", noop_max=31, use_fire_reset=fire_on_reset, num_threads=1
    )
    _, info = native.reset(seed=seeds[again])
    assert again.sum() == 1 and (info["episode_frame_number"] == frames_before).all()

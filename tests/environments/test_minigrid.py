"""MiniGrid's levels, compared with Gymnasium's environment, stepped by hand."""

from __future__ import annotations

import numpy as np
import pytest

from impala_tf import environments
from impala_tf.environments import instructions
from impala_tf.errors import UserError
from impala_tf.structures import ArraySpec

pytest.importorskip("minigrid")

import gymnasium
from minigrid.wrappers import RGBImgPartialObsWrapper

ACTIONS = ("left", "right", "forward", "pickup", "drop", "toggle", "done")


@pytest.mark.parametrize("level", ["BabyAI-GoToRedBall-v0", "MiniGrid-MemoryS7-v0"])
def test_episodes_are_those_of_minigrid(level: str, capfd):
    environment = environments.make(f"minigrid/{level}", 2, seed=1)
    image = ArraySpec((56, 56, 3), np.dtype(np.uint8))
    assert environment.spec == ({"image": image, "instruction": instructions.SPEC}, 7, 1, False, ACTIONS)
    output = environment.reset()
    captured = [capfd.readouterr()]
    single = RGBImgPartialObsWrapper(gymnasium.make(level))
    seen, _ = single.reset(seed=environment._seeds[1])
    random, ends = np.random.default_rng(0), []
    for _ in range(400):
        np.testing.assert_array_equal(output.observation["image"][1], seen["image"])
        np.testing.assert_array_equal(output.observation["instruction"][1], instructions.encode(seen["mission"]))
        actions = random.integers(3, size=2)
        capfd.readouterr()
        output = environment.step(actions)
        captured.append(capfd.readouterr())
        seen, reward, terminated, truncated, _ = single.step(int(actions[1]))
        assert output.reward[1] == np.float32(reward)
        assert (output.terminated[1], output.truncated[1]) == (terminated, truncated and not terminated)
        if terminated or truncated:
            ends.append(terminated)
            seen, _ = single.reset()
    assert len(ends) > 1
    environment.close()
    assert not any(text for both in captured for text in both)  # BabyAI prints levels that it generated and rejected.


def test_an_unknown_level():
    with pytest.raises(UserError, match=r"did you mean minigrid/BabyAI-GoToRedBall-v0"):
        environments.make("minigrid/BabyAI-GoToRedBal-v0", 1, 0)
    with pytest.raises(UserError, match=r"for example minigrid/BabyAI"):
        environments.make("minigrid/zzz", 1, 0)


def test_a_missing_package_is_named_with_its_pip_command(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "minigrid", None)
    with pytest.raises(UserError, match=r'pip install "minigrid>=3"'):
        environments.make("minigrid/BabyAI-GoToRedBall-v0", 1, 0)


def test_it_shows_the_whole_level():
    environment = environments.make("minigrid/BabyAI-GoToRedBall-v0", 2, seed=1, render=True)
    environment.reset()
    single = gymnasium.make("BabyAI-GoToRedBall-v0", render_mode="rgb_array")
    single.reset(seed=environment._seeds[0])
    for _ in range(3):
        np.testing.assert_array_equal(environment.render(), single.render())
        environment.step(np.array([2, 0]))
        single.step(2)
    environment.close()

"""Gymnasium: real environments, held against Gymnasium stepped by hand."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import register

from impala_tf.environments.gymnasium_env import GymnasiumEnvironment
from impala_tf.errors import UserError
from impala_tf.structures import ArraySpec


@pytest.mark.parametrize("name, limit", [("CartPole-v1", 500), ("Acrobot-v1", 500)])
def test_episodes_are_those_of_gymnasium(name: str, limit: int):
    environment = GymnasiumEnvironment(f"gymnasium/{name}", 2, seed=1)
    output = environment.reset()
    single = gymnasium.make(name)
    expected, _ = single.reset(seed=environment._seeds[1])
    np.testing.assert_array_equal(output.observation[1], expected.astype(np.float32))
    random, total, length, episodes = np.random.default_rng(0), 0.0, 0, 0
    for _ in range(600):
        actions = random.integers(environment.spec.num_actions, size=2)
        output = environment.step(actions)
        expected, reward, terminated, truncated, _ = single.step(int(actions[1]))
        total, length = total + float(reward), length + 1
        assert output.reward[1] == np.float32(reward) and output.reward.dtype == np.float32
        assert output.terminated[1] == terminated and output.truncated[1] == (truncated and not terminated)
        if terminated or truncated:
            assert output.episode_return[1] == np.float32(total) and output.episode_length[1] == length <= limit
            total, length, episodes = 0.0, 0, episodes + 1
            expected, _ = single.reset()  # The observation is already the next episode's first.
        else:
            assert output.episode_return[1] == 0 and output.episode_length[1] == 0
        np.testing.assert_array_equal(output.observation[1], expected.astype(np.float32))
    assert episodes > 0
    environment.close()


def test_a_time_limit_truncates():
    environment = GymnasiumEnvironment(
        "gymnasium/MountainCar-v0", 1, seed=0
    )  # Nobody reaches the goal without swinging.
    environment.reset()
    outputs = [environment.step(np.ones(1)) for _ in range(400)]
    truncated = [t for t, output in enumerate(outputs, 1) if output.truncated[0]]
    assert truncated == [200, 400] and not any(output.terminated[0] for output in outputs)
    assert outputs[199].episode_return[0] == -200 and outputs[199].episode_length[0] == 200


def test_seeds():
    def first(seed: int) -> np.ndarray:
        return GymnasiumEnvironment("gymnasium/CartPole-v1", 3, seed).reset().observation

    np.testing.assert_array_equal(first(0), first(0))
    assert len(np.unique(np.concatenate([first(0), first(1)]), axis=0)) == 6


class Images(gymnasium.Env):
    """Gray images without a channel dimension, or bytes that are no image; actions 5, 6 and 7."""

    action_space: gymnasium.Space = gymnasium.spaces.Discrete(3, start=5)

    def __init__(self, shape: tuple[int, ...]):
        self.shape = shape
        self.observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)

    def reset(self, *, seed=None, options=None):
        return np.zeros(self.shape, np.uint8), {}

    def step(self, action):
        return np.full(self.shape, action, np.uint8), 0.0, False, False, {}


@pytest.fixture
def images():
    register("Images-v0", entry_point=Images)  # type: ignore[arg-type]
    yield "Images-v0"
    del gymnasium.registry["Images-v0"]


@pytest.mark.parametrize(
    "shape, expected",
    [
        ((4, 3), ArraySpec((4, 3, 1), np.dtype(np.uint8))),
        ((4, 3, 3), ArraySpec((4, 3, 3), np.dtype(np.uint8))),
        ((128,), ArraySpec((128,), np.dtype(np.float32))),
    ],
)
def test_only_images_stay_bytes_and_actions_count_from_0(images: str, shape: tuple[int, ...], expected: ArraySpec):
    gymnasium.registry[images].kwargs["shape"] = shape
    environment = GymnasiumEnvironment(f"gymnasium/{images}", 2, seed=0)
    assert environment.spec == (expected, 3, 1, False)
    environment.reset()
    for action in range(3):
        observation = environment.step(np.full(2, action)).observation
        assert observation.shape == (2, *expected.shape) and observation.dtype == expected.dtype
        assert (observation == 5 + action).all()


@pytest.mark.parametrize(
    "name, message",
    [
        ("CartPol-v1", r"unknown Gymnasium id 'CartPol-v1'. Did you mean gymnasium/CartPole-v1"),
        ("CartPole-v9", r"Did you mean gymnasium/CartPole-v1"),
        ("nowhere/Thing-v0", r"gymnasium/<package>:<id>"),
        ("no_such_package:Thing-v0", r"needs a package that is not installed: No module named 'no_such_package'"),
        ("Pendulum-v1", r"action space Box.*only Discrete"),
        ("FrozenLake-v1", r"Discrete observations; only arrays"),
        ("not an id", r"cannot be made: Malformed"),
    ],
)
def test_user_errors(name: str, message: str):
    with pytest.raises(UserError, match=message):
        GymnasiumEnvironment(f"gymnasium/{name}", 1, 0)


def test_a_missing_package_is_named_with_its_pip_command(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mujoco", None)
    with pytest.raises(UserError, match=r"not installed.*pip install.*gymnasium\[mujoco\]"):
        GymnasiumEnvironment("gymnasium/Ant-v5", 1, 0)

"""Gymnasium: real environments, compared with Gymnasium's, stepped by hand."""

from __future__ import annotations

import functools
import pathlib
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import register

from impala_tf.environments import instructions
from impala_tf.environments.gymnasium_env import GymnasiumEnvironment
from impala_tf.errors import UserError
from impala_tf.structures import ArraySpec


@pytest.mark.parametrize("name, limit", [("CartPole-v1", 500), ("Acrobot-v1", 500)])
def test_episodes_are_those_of_gymnasium(name: str, limit: int):
    environment = GymnasiumEnvironment(f"{name}", 2, seed=1)
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
    environment = GymnasiumEnvironment("MountainCar-v0", 1, seed=0)  # Nobody reaches the goal without swinging.
    environment.reset()
    outputs = [environment.step(np.ones(1)) for _ in range(400)]
    truncated = [t for t, output in enumerate(outputs, 1) if output.truncated[0]]
    assert truncated == [200, 400] and not any(output.terminated[0] for output in outputs)
    assert outputs[199].episode_return[0] == -200 and outputs[199].episode_length[0] == 200


def test_seeds():
    def first(seed: int) -> np.ndarray:
        return GymnasiumEnvironment("CartPole-v1", 3, seed).reset().observation

    np.testing.assert_array_equal(first(0), first(0))
    assert len(np.unique(np.concatenate([first(0), first(1)]), axis=0)) == 6


sys.path.append(str(pathlib.Path(__file__).parent))

import instances  # noqa: E402


def test_text_becomes_an_instruction_and_other_entries_are_dropped():
    environment = GymnasiumEnvironment("instances:Spoken-v0", 2, seed=3)
    image = ArraySpec((6, 5, 1), np.dtype(np.uint8))
    assert environment.spec == ({"image": image, "instruction": instructions.SPEC}, 3, 1, False, ())
    single = instances.Spoken()
    seen, _ = single.reset(seed=environment._seeds[1])
    output, missions = environment.reset(), set()
    for action in np.random.default_rng(0).integers(3, size=200):
        np.testing.assert_array_equal(output.observation["image"][1], seen["image"][..., None])
        np.testing.assert_array_equal(output.observation["instruction"][1], instructions.encode(seen["mission"]))
        missions.add(seen["mission"])
        output = environment.step(np.full(2, action))
        seen, reward, terminated, truncated, _ = single.step(5 + action)
        assert (output.terminated[1], output.truncated[1]) == (terminated, truncated and not terminated)
        assert output.reward[1] == np.float32(reward)
        if terminated or truncated:
            seen, _ = single.reset()
    assert len(missions) > 10


@pytest.mark.parametrize("keep_bool, dtype", [(False, np.float32), (True, bool)])
def test_bool_is_kept_on_request(keep_bool: bool, dtype: type):
    """Not without it: models of older versions take float32."""
    make_one = functools.partial(_with, gymnasium.spaces.Box(0, 1, (4, 4, 2), bool))
    environment = GymnasiumEnvironment("x", 1, 0, make_one=make_one, keep_bool=keep_bool)
    assert environment.spec.observation == ArraySpec((4, 4, 2), np.dtype(dtype))


def test_an_encoded_instruction_is_taken_as_it_is():
    environment = GymnasiumEnvironment("x", 2, 0, make_one=instances.Ready, frames_per_step=4)
    image = ArraySpec((4, 4, 3), np.dtype(np.uint8))
    assert environment.spec == ({"image": image, "instruction": instructions.SPEC}, 2, 4, False, ())
    observation = environment.reset().observation
    np.testing.assert_array_equal(observation["instruction"], [np.arange(64)] * 2)
    assert observation["instruction"].dtype == np.int32 and (observation["image"] == 1).all()


IMAGE, VECTOR = gymnasium.spaces.Box(0, 255, (4, 4, 3), np.uint8), gymnasium.spaces.Box(-1, 1, (2,))
TEXT = gymnasium.spaces.Text(9)


@pytest.mark.parametrize(
    "space, message",
    [
        ({"left": IMAGE, "right": IMAGE}, r"^x has Dict .*the arrays \['left', 'right'\].*exactly one array"),
        ({"a": VECTOR, "b": VECTOR}, r"the arrays \['a', 'b'\]"),
        ({"a": TEXT, "b": TEXT, "image": IMAGE}, r"the texts \['a', 'b'\].*at most one text"),
        ({"a": TEXT, "instruction": gymnasium.spaces.Box(0, 9, (64,), np.int32), "image": IMAGE}, r"the texts \['a', "),
        ({"text": TEXT}, r"the arrays \[\] and the texts \['text'\]"),
        ({"image": gymnasium.spaces.Tuple([IMAGE])}, r"the arrays \[\]"),
        (gymnasium.spaces.Tuple([IMAGE, VECTOR]), r"^x has Tuple observations; only arrays"),
        (TEXT, r"^x has Text observations"),
    ],
)
def test_observations_that_no_agent_can_read(space, message: str):
    with pytest.raises(UserError, match=message):
        GymnasiumEnvironment("x", 1, 0, make_one=functools.partial(_with, space))


def test_a_vector_comes_with_text_too():
    make_one = functools.partial(_with, {"state": VECTOR, "text": TEXT, "direction": gymnasium.spaces.Discrete(4)})
    spec = GymnasiumEnvironment("x", 1, 0, make_one=make_one).spec.observation
    assert spec == {"image": ArraySpec((2,), np.dtype(np.float32)), "instruction": instructions.SPEC}


def _with(space) -> gymnasium.Env:
    env = instances.Vector()
    env.observation_space = gymnasium.spaces.Dict(space) if isinstance(space, dict) else space
    return env


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
    environment = GymnasiumEnvironment(f"{images}", 2, seed=0)
    assert environment.spec == (expected, 3, 1, False, ())
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
        GymnasiumEnvironment(f"{name}", 1, 0)


def test_a_missing_package_is_named_with_its_pip_command(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mujoco", None)
    with pytest.raises(UserError, match=r"not installed.*pip install.*gymnasium\[mujoco\]"):
        GymnasiumEnvironment("Ant-v5", 1, 0)


def test_where_one_instance_cannot_be_made_the_others_are_closed():
    made, closed = [], []

    class Third(instances.Ready):
        def __init__(self):
            if len(made) == 2:
                raise OSError("no more engines")
            made.append(self)

        def close(self):
            closed.append(self)

    with pytest.raises(OSError, match="no more engines"):
        GymnasiumEnvironment("x", 3, 0, make_one=Third)
    assert len(made) == 2 and closed == made[::-1]


def test_action_names():
    class Named(instances.Vector):
        names = ("off", "on")

        def get_action_meanings(self):
            return self.names

    class Other(Named):  # A wrapper has changed the actions, but not their names.
        names = ("off", "on", "on")

    specs = [GymnasiumEnvironment("x", 1, 0, make_one=one).spec for one in (Named, Other, instances.Vector)]
    assert [spec.action_names for spec in specs] == [("off", "on"), (), ()]


def test_without_automatic_reset_only_the_first_episodes_are_played(tmp_path: pathlib.Path):
    make_one = functools.partial(instances.Told, str(tmp_path))
    environment = GymnasiumEnvironment("x", 3, 0, make_one=make_one, autoreset=False)
    whole = GymnasiumEnvironment("instances:Spoken-v0", 3, 0)
    for episode in (1, 2):
        environment.reset(), whole.reset()
        running = np.ones(3, bool)
        for _ in range(100):
            actions = np.random.default_rng(0).integers(3, size=3)
            output, expected = environment.step(actions), whole.step(actions)
            for field in ("reward", "terminated", "truncated", "episode_return", "episode_length"):
                value = getattr(output, field)
                np.testing.assert_array_equal(value[running], getattr(expected, field)[running])
                assert not value[~running].any()
            running &= output.episode_length == 0
            going_on = output.observation["image"][running]
            np.testing.assert_array_equal(going_on, expected.observation["image"][running])
        assert not running.any()
        resets = [len(file.read_text()) for file in tmp_path.iterdir() if file.read_text()]
        assert resets == [episode] * 3  # Nobody started an episode that nobody asked for.
    environment.close()


def test_what_is_shown():
    environment = GymnasiumEnvironment("CartPole-v1", 2, 0, render=True)
    single = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    environment.reset(), single.reset(seed=environment._seeds[0])
    for _ in range(3):
        np.testing.assert_array_equal(environment.render(), single.render())
        environment.step(np.array([1, 0])), single.step(1)
    environment.close()
    spoken = GymnasiumEnvironment("instances:Spoken-v0", 2, 0, render=True)  # Cannot draw itself.
    for step in range(3):
        output = spoken.step(np.zeros(2)) if step else spoken.reset()
        np.testing.assert_array_equal(spoken.render(), output.observation["image"][0].repeat(3, axis=-1))


def test_what_drawing_needs_is_told(monkeypatch):
    environment = GymnasiumEnvironment("CartPole-v1", 1, 0, render=True)
    environment.reset()
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(UserError, match=r"to draw gymnasium/CartPole-v1, .*pip install"):
        environment.render()

"""Atari: real games, compared with ALE's single-game interface and with ALE's own frame stacks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from impala_tf.environments.atari import AtariEnvironment


def area_weights(size: int, to: int) -> np.ndarray:
    """Returns a matrix [to, size] that averages `size` pixels over `to` equal areas."""
    left, right = (np.arange(to) * size / to)[:, None], (np.arange(1, to + 1) * size / to)[:, None]
    pixel = np.arange(size)[None]
    return np.clip(np.minimum(right, pixel + 1) - np.maximum(left, pixel), 0, 1) * to / size


WITHOUT_NOOPS = 9  # A seed of ALE's.


class Reference:
    """One game on ALE's plain interface, preprocessed as in the paper, as simply as possible."""

    def __init__(self, game: str, noops: int):
        from ale_py import ALEInterface, LoggerMode, roms

        ALEInterface.setLoggerMode(LoggerMode.Error)
        self.ale = ALEInterface()
        self.ale.setFloat("repeat_action_probability", 0.0)
        self.ale.loadROM(roms.get_rom_path(game) or game)
        self.actions = self.ale.getMinimalActionSet()
        self.ale.reset_game()
        for _ in range(noops):
            self.ale.act(self.actions[0])

    def step(self, action: int) -> None:
        self.reward, self.screens = 0.0, []
        for frame in range(4):
            self.reward += self.ale.act(self.actions[action])
            if self.ale.game_over():
                break
            if frame >= 2:
                self.screens.append(self.ale.getScreenGrayscale().astype(float))

    @staticmethod
    def resize(screen: np.ndarray) -> np.ndarray:
        return area_weights(screen.shape[0], 84) @ screen @ area_weights(screen.shape[1], 84).T


@pytest.mark.slow(5)
@pytest.mark.parametrize("game, lives", [("breakout", 5), ("space_invaders", 3), ("atlantis", 6), ("boxing", 0)])
def test_a_game_is_the_same_game_as_on_ales_plain_interface(game: str, lives: int):
    environment = AtariEnvironment(game, 1, seed=3, env_threads=1)
    output = environment.reset()
    reference = Reference(game, noops=int(environment._frame_number[0]))
    assert reference.ale.lives() == lives
    random, total, length, losses, gains = np.random.default_rng(1), 0.0, 0, 0, 0
    stack = output.observation[0]
    while True:
        lives_before = reference.ale.lives()
        action = int(random.integers(environment.spec.num_actions))
        reference.step(action)
        output = environment.step(np.array([action], np.int32))
        total, length = total + reference.reward, length + 1
        assert output.reward[0] == reference.reward
        if reference.ale.game_over():
            break
        lost = 0 < reference.ale.lives() < lives_before
        losses += lost
        gains += reference.ale.lives() > lives_before
        assert output.terminated[0] == lost and not output.truncated[0]
        assert output.episode_return[0] == 0 and output.episode_length[0] == 0
        # The game, and with it the stack, go on across the loss of a life.
        np.testing.assert_array_equal(output.observation[0, ..., :3], stack[..., 1:])
        stack = output.observation[0]
        if lost or length % 40 == 0:
            np.testing.assert_allclose(
                stack[..., 3], reference.resize(np.max(reference.screens, axis=0)), atol=1
            )  # Rounding.
    assert output.terminated[0] and not output.truncated[0]
    assert output.episode_return[0] == total and output.episode_length[0] == length
    assert losses == max(lives - 1 + gains, 0) and (gains > 0) == (game == "atlantis")
    # Next comes the first observation of the next game: three black frames and one of the start.
    first = Reference(game, noops=int(environment._frame_number[0]))
    assert not output.observation[0, ..., :3].any()
    expected = first.resize(first.ale.getScreenGrayscale().astype(float))
    np.testing.assert_allclose(output.observation[0, ..., 3], expected, atol=1)
    environment.close()


def test_stacks_are_those_of_ale_and_earlier_outputs_stay_as_they_were():
    environment = AtariEnvironment("breakout", 3, seed=0, env_threads=1)
    native: Any = AtariVectorEnv(
        "breakout", 3, autoreset_mode="SameStep", noop_max=31, reward_clipping=False, use_fire_reset=False,
        life_loss_info=True, num_threads=1,
    )  # fmt: skip
    random = np.random.default_rng(0)
    ours = [environment.reset().observation]
    theirs = [native.reset(seed=environment._seeds)[0].copy()]
    games_over = 0
    for _ in range(300):
        actions = random.integers(4, size=3).astype(np.int32)
        output, (observation, reward, terminated, truncated, _) = environment.step(actions), native.step(actions)
        ours.append(output.observation)
        theirs.append(observation.copy())
        np.testing.assert_array_equal(output.reward, reward)
        np.testing.assert_array_equal(output.terminated, terminated)
        np.testing.assert_array_equal(output.truncated, truncated)
        games_over += (output.episode_length > 0).sum()
    assert games_over > 2
    np.testing.assert_array_equal(np.array(ours), np.array(theirs).transpose(0, 1, 3, 4, 2))
    environment.close()


def test_games_with_and_without_life_loss_are_the_same_games():
    learning, playing = (AtariEnvironment("qbert", 2, seed=5, life_loss_ends_episode=ends) for ends in (True, False))
    learning.reset(), playing.reset()
    random, ends = np.random.default_rng(0), np.zeros(2, int)
    for _ in range(400):
        actions = random.integers(6, size=2)
        a, b = learning.step(actions), playing.step(actions)
        ends += a.terminated.sum(), b.terminated.sum()
        np.testing.assert_array_equal(b.terminated, b.episode_length > 0)
        for field in ("observation", "reward", "episode_return", "episode_length"):
            np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
    assert ends[0] >= ends[1] * 4 > 0  # 4 lives a game.


@settings(max_examples=5, deadline=None)
@given(cap=st.integers(1, 150), seed=st.integers(0, 2**40))
def test_the_frame_cap_counts_environment_frames_and_truncates(cap: int, seed: int):
    environment = AtariEnvironment("pong", 1, seed, max_frames_per_episode=cap, env_threads=1)
    environment.reset()
    length = -(-cap // 4)  # The last action is cut short at the cap.
    for step in range(1, 3 * length + 1):
        output = environment.step(np.zeros(1, np.int32))
        over = step % length == 0
        assert (output.truncated == over).all() and not output.terminated.any()
        assert (output.episode_length == (length if over else 0)).all()
        if over:
            assert not output.observation[..., :3].any() and output.observation[..., 3].any()


@pytest.mark.parametrize(
    "game, seed, options, steps",
    [
        ("pong", 0, {"sticky_actions": 0.25}, 300),
        ("breakout", 1, {"sticky_actions": 0.25, "fire_on_reset": True}, 300),  # Several games.
        ("space_invaders", 2, {"full_action_set": True, "max_frames_per_episode": 400}, 250),
        ("skiing", 3, {"full_action_set": True, "sticky_actions": 0.25, "max_frames_per_episode": 200}, 120),
    ],
)
def test_it_shows_the_game_of_instance_0_in_color(game: str, seed: int, options: dict, steps: int):
    environment = AtariEnvironment(game, 2, seed, autoreset=False, render=True, **options)
    environment._seeds[0] = WITHOUT_NOOPS
    output = environment.reset()
    assert environment._seeds[0] != WITHOUT_NOOPS
    random, games = np.random.default_rng(0), 0
    differences: list[int] = []  # Pixels of 84 x 84 that differ.
    other: list[int] = []  # From the other instance.
    for _ in range(steps):
        shown = environment.render()
        assert shown.shape == (210, 160, 3) and shown.dtype == np.uint8
        gray = Reference.resize(shown @ [0.299, 0.587, 0.114])
        difference = np.abs(gray - output.observation[..., 3])
        differences.append((difference[0] > 8).sum())
        other.append((difference[1] > 8).sum())
        output = environment.step(random.integers(environment.spec.num_actions, size=2))
        games += output.episode_length[0] > 0
    # Where sprites of two colors flicker, as Pong's score does, the maximum in color is not that in gray.
    assert max(differences) < 25 and max(other) > 150
    assert games > 0 or game == "pong"
    environment.close()


def test_looking_on_changes_nothing():
    seen, unseen = (AtariEnvironment("breakout", 2, 1, sticky_actions=0.25, render=render) for render in (True, False))
    outputs = seen.reset(), unseen.reset()
    for t in range(200):
        for field, value in outputs[0]._asdict().items():
            np.testing.assert_array_equal(value, getattr(outputs[1], field))
        actions = np.array([t % 4, t // 5 % 4])
        outputs = seen.step(actions), unseen.step(actions)

"""VizDoom's scenarios, compared with Gymnasium's environment, stepped by hand."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

from impala_tf import environments
from impala_tf.errors import UserError
from impala_tf.structures import ArraySpec

pytest.importorskip("vizdoom")

import gymnasium

from impala_tf.environments import vizdoom

BASIC = ("nothing", "attack", "move right", "move left")


def test_episodes_are_those_of_vizdoom(tmp_path: pathlib.Path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    environment = environments.make("vizdoom/Basic", 2, seed=1)
    assert environment.spec == (ArraySpec((72, 96, 3), np.dtype(np.uint8)), 4, 4, False, BASIC)
    output = environment.reset()
    single = vizdoom._make("VizdoomBasic-v1")
    seen, _ = single.reset(seed=environment._seeds[1])
    random, total, ends = np.random.default_rng(0), 0.0, []
    for t in range(300):
        np.testing.assert_array_equal(output.observation[1], seen)
        # First a whole episode of nothing, until the time is up: 300 of its 300 tics, with a living reward of -1.
        actions = random.integers(4, size=2) if ends else np.zeros(2)
        output = environment.step(actions)
        seen, reward, terminated, truncated, _ = single.step(int(actions[1]))
        total += reward
        assert output.reward[1] == reward
        assert (output.terminated[1], output.truncated[1]) == (terminated, truncated)
        if terminated or truncated:
            ends.append((t, terminated, truncated))
            assert output.episode_return[1] == total
            total, (seen, _) = 0.0, single.reset()
    assert ends[0] == (74, False, True) and any(terminated for _, terminated, _ in ends)
    assert len(np.unique(output.observation)) > 50
    environment.close()
    single.close()
    assert not list(tmp_path.iterdir())
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_death_in_the_last_step_terminates():
    env = vizdoom._make("VizdoomBasic-v1")
    env.reset(seed=0)
    for _ in range(74):
        *_, terminated, truncated, _ = env.step(0)
        assert not terminated and not truncated
    game = env.unwrapped.game  # type: ignore[attr-defined]
    game.advance_action(3)
    game.send_game_command("kill")
    *_, terminated, truncated, _ = env.step(0)
    assert game.is_episode_timeout_reached() and game.is_player_dead()
    assert terminated and not truncated
    env.close()


def test_reduce_is_the_mean_over_the_area_of_each_pixel():
    screen = np.random.default_rng(0).integers(256, size=(120, 160, 3)).astype(np.uint8)
    fine = screen.repeat(3, axis=0).repeat(3, axis=1)  # Thirds of old pixels, of which a new one has 5 x 5.
    expected = fine.reshape(72, 5, 96, 5, 3).astype(np.float64).mean(axis=(1, 3))
    reduced = vizdoom.reduce(screen)
    assert reduced.dtype == np.uint8 and np.abs(reduced - expected).max() <= 0.5


@pytest.mark.parametrize("name", ["DefendTheCenter", "defend_the_center", "DefendCenter", "VizdoomDefendCenter-v0"])
def test_names(name: str):
    assert vizdoom._gymnasium_id(name).startswith("VizdoomDefendCenter-v")


def test_every_scenario_is_registered_with_gymnasium():
    known = vizdoom.scenarios()
    assert {"Basic", "HealthGathering", "DefendTheCenter", "TakeCover", "MyWayHome"} <= known.keys()
    assert all(gymnasium.spec(name) for name in known.values())


@pytest.mark.parametrize(
    "name, message",
    [
        ("Basik", r"did you mean vizdoom/Basic\?"),
        ("DefendTheCentre", r"did you mean vizdoom/DefendTheCenter"),
        ("zzz", r"unknown VizDoom scenario 'zzz': there are Basic, "),
        ("Deathmatch", r"vizdoom/Deathmatch has the action space Dict.*only Discrete"),
    ],
)
def test_user_errors(name: str, message: str):
    with pytest.raises(UserError, match=message):
        environments.make(f"vizdoom/{name}", 1, 0)


def test_a_missing_package_is_named_with_its_pip_command(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "vizdoom.gymnasium_wrapper", None)
    with pytest.raises(UserError, match=r'pip install "vizdoom>=1.3"'):
        environments.make("vizdoom/Basic", 1, 0)


def test_it_shows_the_engines_screen_and_the_agent_sees_the_same_as_without():
    shown, alone = (environments.make("vizdoom/Basic", 2, seed=3, render=render) for render in (True, False))
    np.testing.assert_array_equal(shown.reset().observation, alone.reset().observation)
    for t in range(80):
        output, expected = shown.step(np.full(2, t % 4)), alone.step(np.full(2, t % 4))
        np.testing.assert_array_equal(output.observation, expected.observation)
        screen = shown.render()
        assert screen.shape == (120, 160, 3) and screen.dtype == np.uint8
        np.testing.assert_array_equal(vizdoom.reduce(screen), output.observation[0])
    shown.close()
    alone.close()

"""MinAtar's games, compared with MinAtar's own `Environment`, stepped by hand."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from impala_tf import environments
from impala_tf.environments import minatar
from impala_tf.errors import UserError
from impala_tf.structures import ArraySpec

pytest.importorskip("minatar")

from minatar import Environment

SPECS = {  # Channels, actions.
    "asterix": (4, ("noop", "left", "up", "right", "down")),
    "breakout": (4, ("noop", "left", "right")),
    "freeway": (7, ("noop", "up", "down")),
    "seaquest": (10, ("noop", "left", "up", "right", "down", "fire")),
    "space_invaders": (6, ("noop", "left", "right", "fire")),
}
KEYS = ("noop", "left", "up", "right", "down", "fire")  # MinAtar's order; an action's number there is its index here.


def test_the_games():
    assert minatar.games() == list(SPECS)


@pytest.mark.parametrize("game", SPECS)
def test_episodes_are_those_of_minatar(game: str, capfd):
    """The same with one seed; with sticky actions and increasing difficulty, which are MinAtar's defaults."""
    channels, names = SPECS[game]
    environment = environments.make(f"minatar/{game}", 2, seed=1)
    assert environment.spec == (ArraySpec((10, 10, channels), np.dtype(bool)), len(names), 1, False, names)
    output = environment.reset()
    single = Environment(game)
    single.seed(environment._seeds[1])
    single.reset()
    random, total, length, ends, rewarded = np.random.default_rng(0), 0.0, 0, 0, 0
    for _ in range(3000):
        assert output.observation.dtype == bool
        np.testing.assert_array_equal(output.observation[1], single.state())
        actions = random.integers(len(names), size=2)
        output = environment.step(actions)
        reward, ended = single.act(KEYS.index(names[actions[1]]))
        total, length, rewarded = total + reward, length + 1, rewarded + (reward > 0)
        assert output.reward[1] == np.float32(reward)
        assert (output.terminated[1], output.truncated[1]) == (ended and game != "freeway", ended and game == "freeway")
        assert (output.episode_return[1], output.episode_length[1]) == ((total, length) if ended else (0, 0))
        if ended:
            single.reset()
            total, length, ends = 0.0, 0, ends + 1
    assert ends and (rewarded or game == "freeway")
    environment.close()
    assert capfd.readouterr() == ("", "")


def test_actions_are_sticky():
    """A tenth of the steps repeats the last action: the paddle, told to go left and right in turn, goes on."""
    environment = environments.make("minatar/breakout", 1, seed=0)
    environment.reset()
    wrong, moves, before = 0, 0, 4
    for step in range(4000):
        output = environment.step(np.array([1 + step % 2]))
        position = int(output.observation[0, 9, :, 0].argmax())
        if not output.terminated[0] and 0 < before < 9:
            moves += 1
            wrong += position - before != (-1, 1)[step % 2]
        before = position
    assert 0.08 < wrong / moves < 0.12


def test_games_get_harder():
    environment = environments.make("minatar/asterix", 1, seed=0)
    game = environment._env.envs[0].unwrapped.game.env  # type: ignore[attr-defined]
    assert game.ramping and game.difficulty_ramp() == 0


def test_seeds():
    def play(seed: int) -> np.ndarray:
        environment = environments.make("minatar/freeway", 3, seed)
        environment.reset()
        return np.stack([environment.step(np.ones(3)).observation for _ in range(50)], axis=1)

    first, again, other = play(0), play(0), play(1)
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(np.concatenate([first, other]).reshape(6, -1), axis=0)) == 6


def test_freeway_has_a_time_limit():
    """MinAtar says that it ends; but nothing in the observation tells when."""
    environment = environments.make("minatar/freeway", 1, seed=0)
    environment.reset()
    outputs = [environment.step(np.ones(1)) for _ in range(5010)]  # Up.
    ends = [step for step, output in enumerate(outputs, 1) if output.truncated[0]]
    assert ends == [2501, 5002] and not any(output.terminated[0] for output in outputs)
    assert outputs[2500].episode_length[0] == 2501 and outputs[2500].episode_return[0] > 0


def test_one_episode_alone():
    """As evaluations play: nothing counts after the first end."""
    environment = environments.make("minatar/breakout", 2, seed=0, autoreset=False)
    environment.reset()
    outputs = [environment.step(np.zeros(2, int)) for _ in range(100)]
    ends = np.array([output.episode_length for output in outputs])
    assert (ends > 0).any(axis=0).all()


@pytest.mark.parametrize(
    ("game", "hint"),
    [
        ("brekout", r"did you mean minatar/breakout\?"),
        ("space-invaders", r"did you mean minatar/space_invaders\?"),
        ("zzz", "it is one of asterix, breakout, freeway, seaquest, space_invaders"),
    ],
)
def test_an_unknown_game(game: str, hint: str):
    with pytest.raises(UserError, match=f"unknown MinAtar game '{game}': {hint}"):
        environments.make(f"minatar/{game}", 1, 0)


def test_a_missing_package_is_named_with_its_pip_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "minatar", None)
    monkeypatch.delitem(sys.modules, "minatar.gym", raising=False)
    with pytest.raises(UserError, match=r'MinAtar is not installed .*pip install "minatar>=1.0.15"'):
        environments.make("minatar/breakout", 1, 0)


def test_the_names_of_games_are_known_without_loading_minatar():
    """It loads seaborn and SciPy, which takes a second."""
    code = (
        "import sys; from impala_tf import environments; from impala_tf.environments import minatar; minatar.games();"
        "environments.check('minatar/breakout'); sys.exit('minatar' in sys.modules or 'seaborn' in sys.modules)"
    )
    root = pathlib.Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("game", SPECS)
def test_a_picture_has_a_color_for_each_kind_of_object(game: str):
    environment = environments.make(f"minatar/{game}", 2, seed=1, render=True)
    output = environment.reset()
    colors: dict[int, set[tuple[int, ...]]] = {}
    for step in range(300):
        picture = environment.render()
        assert picture.shape == (10, 10, 3) and picture.dtype == np.uint8
        state = output.observation[0]
        top = np.where(state.any(-1), state.shape[-1] - state[..., ::-1].argmax(-1), 0)  # The last channel is on top.
        for kind in np.unique(top):
            colors.setdefault(int(kind), set()).update(map(tuple, picture[top == kind].tolist()))
        output = environment.step(np.full(2, step % environment.spec.num_actions))
    environment.close()
    assert colors[0] == {(0, 0, 0)} and all(len(each) == 1 for each in colors.values())
    assert len(set.union(*colors.values())) == len(colors) > 2
    assert max(max(color) for (color,) in colors.values()) > 150  # Bright enough to be seen.

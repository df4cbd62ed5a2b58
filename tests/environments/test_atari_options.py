"""Options and names of Atari games, and what is refused."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest

from impala_tf.environments.atari import AtariEnvironment, games, rom
from impala_tf.errors import UserError
from impala_tf.structures import ArraySpec


def test_action_names():
    from ale_py import Action

    def names(game: str, full: bool) -> tuple[str, ...]:
        return AtariEnvironment(game, 1, 0, full_action_set=full).spec.action_names

    everything = tuple(Action(i).name for i in range(18))
    assert names("pong", False) == ("NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE")
    assert names("skiing", False) == ("NOOP", "RIGHT", "LEFT")
    for game in ("pong", "skiing"):
        assert names(game, True) == everything


def test_options():
    spec = AtariEnvironment("breakout", 1, 0).spec
    assert spec == (ArraySpec((84, 84, 4), np.dtype(np.uint8)), 4, 4, True, ("NOOP", "FIRE", "RIGHT", "LEFT"))
    assert AtariEnvironment("breakout", 1, 0, full_action_set=True).spec.num_actions == 18

    def play(**options) -> np.ndarray:
        environment = AtariEnvironment("breakout", 1, 0, **options)
        environment.reset()
        return np.array([environment.step(np.full(1, t // 8 % 4)).observation[..., 3] for t in range(24)])

    sticky = play(sticky_actions=0.5)
    assert (sticky != play(env_threads=1)).any()
    np.testing.assert_array_equal(sticky, play(sticky_actions=0.5))
    waiting = AtariEnvironment("breakout", 1, 0)
    serving = AtariEnvironment("breakout", 1, 0, fire_on_reset=True)
    for environment, serves in ((waiting, False), (serving, True)):
        environment.reset()
        lost = [environment.step(np.zeros(1)).terminated[0] for _ in range(60)]
        assert any(lost) == serves  # Breakout serves no ball, and so takes no life, before FIRE.


def test_actions_out_of_range_are_errors_not_hangs():
    environment = AtariEnvironment("pong", 2, 0)
    environment.reset()
    for actions in ([0, 6], [-1, 0], [0], [[0, 0]]):
        with pytest.raises(ValueError, match="actions"):
            environment.step(np.array(actions))
    environment.step(np.array([5, 0]))


@pytest.mark.parametrize(
    "name", ["ms_pacman", "MsPacman", "mspacman", "ALE/MsPacman-v5", "MsPacman-v4", "MsPacmanNoFrameskip-v4"]
)
def test_spellings_of_a_game(name: str):
    assert rom(name) == "ms_pacman"


def test_every_game_has_its_own_name():
    assert [rom(game) for game in games()] == games()


def test_user_errors(monkeypatch, tmp_path):
    with pytest.raises(UserError, match=r"did you mean atari/breakout\b.*108 games"):
        AtariEnvironment("brekout", 1, 0)
    with pytest.raises(UserError, match="unknown Atari game 'xyz': for example adventure"):
        rom("xyz")
    with pytest.raises(UserError, match="sticky"):
        AtariEnvironment("pong", 1, 0, sticky_actions=1.5)
    with pytest.raises(UserError, match="max_frames"):
        AtariEnvironment("pong", 1, 0, max_frames_per_episode=0)
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"ROM of pong .* ALE_ROMS_DIR"):
        AtariEnvironment("pong", 1, 0)
    monkeypatch.setitem(sys.modules, "ale_py", None)  # As if it were not installed.
    with pytest.raises(UserError, match='pip install "ale-py=='):
        rom("pong")


def test_the_terminal_stays_quiet(capfd):
    environment = AtariEnvironment("pong", 1, 0)
    environment.reset()
    environment.close()
    assert capfd.readouterr() == ("", "")


def test_a_folder_of_roms_is_not_announced(tmp_path, monkeypatch, capsys):
    """Standard output, to which other threads may be writing, is not redirected."""
    import ale_py.roms

    shutil.copy(ale_py.roms.get_rom_path("pong"), tmp_path)
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    AtariEnvironment("pong", 1, 0).close()
    assert capsys.readouterr().out == ""

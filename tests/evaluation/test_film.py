"""Films of the first episodes."""

from __future__ import annotations

import pathlib

import imageio_ffmpeg
import numpy as np
import pytest

from impala_tf.errors import UserError
from impala_tf.evaluation import film
from impala_tf.evaluation.film import Film
from impala_tf.export.saved_model import SavedPolicy

HELD = 15  # Frames that show the end of an episode.


@pytest.fixture
def settings(games, games_model, tmp_path) -> Film:
    options = {"autoreset": False, "env_threads": 1}
    return Film(str(tmp_path / "it.mp4"), games_model, games.GOOD, options, tuple(range(10)), False, 60.0, "")


def brightness(path: str) -> np.ndarray:
    """The mean of the game's picture in each frame."""
    reader = imageio_ffmpeg.read_frames(path)
    width, height = next(reader)["size"]
    return np.array([np.frombuffer(x, np.uint8).reshape(height, width, 3)[60:400, 30:400].mean() for x in reader])


def test_it_shows_several_episodes_to_their_ends(settings, games, games_model, monkeypatch):
    """Each step of each episode, then its last picture for a second."""
    monkeypatch.setattr(film, "LEAST_STEPS", 2)
    assert film.make(settings, SavedPolicy(games_model), lambda: False)
    expected = [0, 60, 120, 180, *[180] * HELD] * film.FEW
    np.testing.assert_allclose(brightness(settings.path), expected, atol=6)


def test_it_is_cut(settings, games_model, monkeypatch):
    monkeypatch.setattr(film, "MOST_STEPS", 6)
    assert film.make(settings, SavedPolicy(games_model), lambda: False)
    assert len(brightness(settings.path)) == 6 + HELD


def test_it_can_be_stopped(settings, games_model, tmp_path):
    calls = iter(range(100))
    assert not film.make(settings, SavedPolicy(games_model), lambda: next(calls) > 5)
    assert not film._make_in_process(settings, lambda: True)
    assert not list(tmp_path.iterdir())


def test_an_engine_that_ends_its_process(settings, games, tmp_path):
    """The message names the file that has the engine's reason."""
    log = tmp_path / "film.log"
    with pytest.raises(UserError) as error:
        film._make_in_process(settings._replace(env_id=games.EXITS, log=str(log)), lambda: False)
    assert f"could not be made (its process ended with exit status 1). The engine's own output is in {log}" in str(
        error.value
    )
    assert "Didn't find map 'castle'" in log.read_text()
    assert list(tmp_path.iterdir()) == [log]


def test_an_environment_that_fails(settings, games, games_model, tmp_path):
    with pytest.raises(UserError, match=r"it\.mp4 could not be made \(film: episode 0 failed 3 times"):
        film.make(settings._replace(env_id=games.BAD), SavedPolicy(games_model), lambda: False)
    assert not list(pathlib.Path(tmp_path).iterdir())

"""The learning curve of a run; test_progress.py draws one of several tasks."""

import matplotlib.figure
import pytest

from impala_tf import config as config_lib
from impala_tf.records import curve
from impala_tf.records.logdir import LogDir


def test_it_is_drawn_once_a_game_has_ended(tmp_path):
    logdir = LogDir(str(tmp_path))
    logdir.progress.write_text("frames,mean_return_100\n100,nan\n")
    assert not curve.draw(logdir, "nothing yet")
    assert not logdir.curve.exists()
    logdir.progress.write_text("frames,mean_return_100\n100,nan\n200,3\n")
    assert curve.draw(logdir, "a game")
    assert logdir.curve.read_bytes().startswith(b"\x89PNG")


def _drawn(logdir, monkeypatch):
    """Draws the curve; returns its texts, the heights of its dashed lines and its limits."""
    figures = []
    monkeypatch.setattr(
        matplotlib.figure.Figure, "savefig", lambda self, path, **_: figures.append(self) or path.touch()
    )
    assert curve.draw(logdir, "a run")
    (ax,) = figures[0].axes
    dashed = [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == "--"]
    return [text.get_text() for text in ax.texts], dashed, ax.get_ylim()


@pytest.mark.parametrize(
    ("env", "returns", "texts", "lines"),
    [
        ("atari/pong", (-20.0, 15.0), ["random -20.71", "human 14.6"], [-20.71, 14.6]),
        ("atari/pong", (-20.5, -20.3), ["random -20.71", "human 14.6 (above)"], [-20.71]),
        ("atari/seaquest", (60.0, 600.0), ["random 68.4", "human 42,054.7 (above)"], [68.4]),
        ("atari/seaquest", (0.0, 0.0), ["random 68.4", "human 42,054.7 (above)"], [68.4]),
        ("atari/breakout", (300.0, 400.0), ["random 1.72 (below), human 30.5 (below)"], []),
        ("catch", (-0.6, 1.0), [], []),
    ],
)
def test_it_has_the_levels_that_are_near(tmp_path, monkeypatch, env, returns, texts, lines):
    logdir = LogDir(str(tmp_path))
    logdir.prepare(config_lib.from_values({"env": env, "logdir": str(tmp_path)}))
    rows = [f"{100 * i},{value}\n" for i, value in enumerate(returns, start=1)]
    logdir.progress.write_text("frames,mean_return_100\n" + "".join(rows))
    written, dashed, (low, high) = _drawn(logdir, monkeypatch)
    assert (written, dashed) == (texts, lines)
    inside = [*returns, *lines]
    assert low < min(inside) and max(inside) < high
    assert returns[0] == returns[1] or returns[1] - returns[0] > (high - low) / 4  # It stays readable.

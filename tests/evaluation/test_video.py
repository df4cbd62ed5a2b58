"""Videos, compared with what was drawn by decoding them; and failures, after which no file is left."""

from __future__ import annotations

import pathlib
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest

from impala_tf.errors import UserError
from impala_tf.evaluation import panel
from impala_tf.evaluation.panel import Panel
from impala_tf.evaluation.video import Video

LOGITS = np.array([0.0, 2.0, -1.0])


def step(**other: Any) -> dict[str, Any]:
    return {
        "frame": np.zeros((10, 5, 3), np.uint8), "logits": LOGITS, "value": 0.5, "action": 1, "reward": 0.0,
        "episode_return": 3.0, "step": 0, **other,
    }  # fmt: skip


def decoded(path: pathlib.Path) -> tuple[dict[str, Any], np.ndarray]:
    """Returns the file's metadata and its frames, uint8 [T, height, width, 3]."""
    reader = imageio_ffmpeg.read_frames(str(path))
    about: Any = next(reader)
    width, height = about["size"]
    return about, np.stack([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader])


@pytest.mark.parametrize(
    "shape, size",
    [
        ((210, 160), (420, 320)),
        ((72, 96), (432, 576)),
        ((10, 5), (420, 210)),
        ((1, 5), (128, 640)),
        ((256, 256), (512, 512)),
        ((401, 603), (401, 603)),
        ((800, 800), (800, 800)),
    ],
)
def test_it_shows_the_frames_enlarged(tmp_path: pathlib.Path, shape: tuple[int, int], size: tuple[int, int]):
    random = np.random.default_rng(0)
    seen = random.integers(256, size=(3, 2, 2, 3)).repeat(-(-shape[0] // 2), 1).repeat(-(-shape[1] // 2), 2)
    seen = seen[:, : shape[0], : shape[1]].astype(np.uint8)
    path = tmp_path / "it.mp4"
    with Video(path, "title", "note", ("a", "b", "c"), 3, 15) as video:
        for t, frame in enumerate(seen):
            video.add(**step(frame=frame, step=t))
            assert not path.exists()
    about, frames = decoded(path)
    assert len(frames) == 3 and about["fps"] == 15 and about["codec"] == "h264" and "yuv420p" in about["pix_fmt"]
    height, width = frames.shape[1:3]
    assert height % 2 == width % 2 == 0
    assert height - max(size[0], panel.MIN_HEIGHT) in (32, 33) and width - size[1] - panel.WIDTH in (56, 57)
    top = 16 + (max(size[0], panel.MIN_HEIGHT) - size[0]) // 2
    for frame, original in zip(frames.astype(int), seen):
        enlarged = original.repeat(size[0] // shape[0], 0).repeat(size[1] // shape[1], 1)
        there = frame[top : top + size[0], 16 : 16 + size[1]]
        assert np.median(np.abs(there - enlarged)) <= 4  # yuv420p changes colors a little.
        assert (np.abs(there - enlarged).max(axis=-1) < 24).mean() > 0.95
    assert list(tmp_path.iterdir()) == [path]


def test_the_panel_follows_value_policy_and_episode():
    def of(*steps: dict[str, Any], names: tuple[str, ...] = ()) -> np.ndarray:
        drawn = Panel("title", "note", names, 3, panel.MIN_HEIGHT)
        for each in steps:
            image = drawn.draw(**{key: value for key, value in step(**each).items() if key != "frame"})
        return np.asarray(image)

    one = of({})
    assert one.shape == (panel.MIN_HEIGHT, panel.WIDTH, 3)
    np.testing.assert_array_equal(one, of({}))
    for other in (
        *({"value": 0.75}, {"action": 0}, {"reward": 1.0}, {"episode_return": 4.0}, {"step": 7}),
        *({"ended": True}, {"episode": 2}),
    ):
        assert (one != of(other)).any()
    assert (one != of({}, names=("x", "y", "z"))).any()
    # The curve shows earlier steps, with their rewards below, until the next episode starts.
    two = [{"value": 0.1, "step": 1}, {"value": 0.5, "step": 2}]
    assert (of(*two) != of({"step": 2})).any()
    assert (of(*two) != of({**two[0], "reward": -1.0}, two[1])).any()
    np.testing.assert_array_equal(of(*two, {}), one)


LONG = "minigrid/BabyAI-GoToRedBallNoDists-v0"


@pytest.mark.parametrize("title", ["catch", LONG, 4 * LONG, "gymnasium/" + "W" * 99])
@pytest.mark.parametrize("note", ["", "0.202M frames", "1.23e+04M frames"])
def test_titles_fit_and_the_note_is_whole(title: str, note: str):
    width = panel.WIDTH - panel._font(panel._TITLES[-1]).getlength(note) - panel._GAP
    shown, size = panel._fitting(title, width)
    assert panel._font(size).getlength(shown) <= width
    assert shown == title or ("..." in shown and shown[:8] == title[:8] and shown[-4:] == title[-4:])
    assert shown == title or len(title) > 40
    heading = np.asarray(Panel(title, note, (), 3, panel.MIN_HEIGHT)._empty)[:26]
    without = np.asarray(Panel(title, "", (), 3, panel.MIN_HEIGHT)._empty)[:26]
    ink = (heading != panel._BACKGROUND).any(axis=(0, 2))
    if note:  # They do not touch.
        assert not ink[int(width) + 1 :][: panel._GAP - 4].any() and ink[int(width) + 1 :].any()
    assert (heading != without).any() == bool(note)


def test_the_end_of_an_episode_stays(tmp_path: pathlib.Path):
    path = tmp_path / "it.mp4"
    frame = np.full((10, 5, 3), 200, np.uint8)
    with Video(path, "title", "note", (), 3, 15) as video:
        video.add(**step(frame=frame))
        video.add(**step(frame=video.last_frame, reward=1.0, episode_return=4.0, ended=True, step=1), times=15)
    _, frames = decoded(path)
    assert len(frames) == 16
    first, end, last = (frames[i].astype(int) for i in (0, 1, 15))
    assert np.abs(end - first).max() > 100 and np.abs(last - end).max() < 60
    where = (slice(60, 400), slice(30, 200))
    np.testing.assert_allclose(first[where], last[where], atol=8)


@pytest.mark.parametrize("num_actions", [2, 18, 20])
def test_bars_are_proportional_to_the_probabilities(num_actions: int):
    policy = np.random.default_rng(num_actions).dirichlet(np.ones(num_actions))
    drawn = Panel("title", "note", (), num_actions, panel.MIN_HEIGHT)
    image = np.asarray(drawn.draw(np.log(policy) + 7, 0.0, 1, 0.0, 0.0, 0))
    bars = image[panel._BARS_TOP :, panel._NAMES_WIDTH : panel.WIDTH - panel._NUMBERS_WIDTH]
    lengths = []
    for row in range(num_actions):
        line = bars[round((row + 0.5) * drawn._row_height)]
        color = panel._AMBER if row == 1 else panel._BLUE  # Action 1 is the one taken.
        lengths.append((line == color).all(axis=-1).sum())
    np.testing.assert_allclose(lengths, np.maximum(policy * bars.shape[1], 1), atol=0.6)
    assert not (bars[round(num_actions * drawn._row_height) + 2 :] == panel._BLUE).all(axis=-1).any()


def test_with_many_actions_the_most_probable_ones_and_the_one_taken_are_drawn():
    policy = np.arange(50) / np.arange(50).sum()
    assert panel._shown(policy, 49) == list(range(49, 29, -1))
    assert panel._shown(policy, 3) == [*range(49, 30, -1), 3]
    assert panel._shown(policy[:20], 3) == list(range(20))
    Panel("t", "note", (), 50, panel.MIN_HEIGHT).draw(np.log(policy + 1e-9), 0.0, 3, 0.0, 0.0, 0)


def test_numbers_that_are_hard_to_draw():
    drawn = Panel("a title that is much too long for the panel, so that it has to be cut somewhere", "note", (), 3, 600)
    for t, value in enumerate([0.0, 0.0, 1e6, -1e6, 3e-7]):
        drawn.draw(np.array([-1e9, 0.0, 50.0]), value, 0, -1e5, 1234567.5, t)


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("steps", [0, 1, 30])
def test_nothing_is_left_after_an_exception(tmp_path: pathlib.Path, kind: type[BaseException], steps: int):
    with pytest.raises(kind), Video(tmp_path / "it.mp4", "title", "note", (), 3, 15) as video:
        for t in range(steps):
            video.add(**step(step=t))
        raise kind
    assert not list(tmp_path.iterdir())


def test_without_frames_there_is_no_file(tmp_path: pathlib.Path):
    with Video(tmp_path / "it.mp4", "title", "note", (), 3, 15):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("steps", [1, 100])  # The failure of ffmpeg shows at the end or earlier.
def test_a_file_that_cannot_be_written_is_an_error(tmp_path: pathlib.Path, steps: int):
    folder = tmp_path / "folder"
    folder.mkdir()
    with (
        pytest.raises(UserError, match=r"it\.mp4 cannot be written"),
        Video(folder / "it.mp4", "t", "note", (), 3, 15) as video,
    ):
        folder.rmdir()
        for t in range(steps):
            video.add(**step(step=t))


def test_frames_of_different_sizes_or_types(tmp_path: pathlib.Path):
    for frame in (np.zeros((10, 6, 3), np.uint8), np.zeros((10, 5, 3)), np.zeros((10, 5), np.uint8)):
        with (
            pytest.raises(ValueError, match="expected frames"),
            Video(tmp_path / "it.mp4", "t", "note", (), 3, 15) as video,
        ):
            video.add(**step())
            video.add(**step(frame=frame))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name, message",
    [
        ("there.mp4", r"there\.mp4 exists already"),
        ("no/it.mp4", r"no/it\.mp4 cannot be written: the folder .*no does not exist"),
        ("it.avi", r"must have a name that ends in \.mp4"),
        ("it", r"must have a name that ends in \.mp4"),
    ],
)
def test_invalid_paths(tmp_path: pathlib.Path, name: str, message: str):
    (tmp_path / "there.mp4").write_text("mine")
    with pytest.raises(UserError, match=message):
        Video(tmp_path / name, "title", "note", (), 3, 15)
    assert (tmp_path / "there.mp4").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_a_machine_without_ffmpeg(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    def none() -> str:
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", none)
    with pytest.raises(UserError, match="IMAGEIO_FFMPEG_EXE"):
        Video(tmp_path / "it.mp4", "title", "note", (), 3, 15)

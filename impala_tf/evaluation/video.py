"""Writes videos of an agent playing: the environment's image next to the agent's policy and value."""

from __future__ import annotations

import os
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
from PIL import Image

from impala_tf.errors import UserError
from impala_tf.evaluation import panel

_FRAME_HEIGHT, _FRAME_WIDTH = 420, 640
_MARGIN, _GAP = 16, 24


class Video:
    """Writes an mp4 file (H.264) of one or more episodes, one frame per agent step. Use it in a `with` statement.

    The complete file appears when the `with` block ends. After an exception, or without any frames, no file is left.

    Args:
      path: the file to write; must end in .mp4 and not exist, in a folder that exists.
      title: text above the panel, made smaller or shortened if it is too long.
      note: text to its right, which is always shown whole.
      action_names: one name per action, or (); see `EnvironmentSpec`.
      num_actions: A.
      frames_per_second: agent steps per second of video; 15 is real time for Atari.

    Attributes:
      last_frame: the environment's image that was added last.

    Raises:
      UserError: the path cannot be used, or there is no ffmpeg for this machine.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        title: str,
        note: str,
        action_names: Sequence[str],
        num_actions: int,
        frames_per_second: float,
    ):
        self._path = Path(path)
        check(self._path)
        if self._path.exists():
            raise UserError(f"the video {self._path} exists already: remove it, or choose another name")
        # ffmpeg chooses the format by the suffix.
        self._unfinished = unfinished(self._path)
        self._titles, self._action_names, self._num_actions = (title, note), action_names, num_actions
        self._frames_per_second = frames_per_second
        self._shape: tuple[int, ...] = ()
        self._num_frames = 0
        self._discarded = False
        self._writer: Any = None
        self.last_frame: Any = None

    def __enter__(self) -> Video:
        return self

    def add(
        self,
        frame: np.ndarray,
        logits: np.ndarray,
        value: float,
        action: int,
        reward: float,
        episode_return: float,
        step: int,
        ended: bool = False,
        *,
        episode: int = 1,
        times: int = 1,
    ) -> None:
        """Adds one agent step, or the end of an episode.

        Args:
          frame: uint8 [H, W, 3], the environment's RGB image, of the same size every time. It is scaled up by an
            integer factor, to a height of about 420 pixels.
          logits: float [A], unnormalized log-probabilities of the policy.
          value: the value estimate V.
          action: the action taken at this step.
          reward: the unclipped reward that came with the frame.
          episode_return: sum of the rewards so far.
          step: agent steps of the episode before this one; if it does not increase, a new episode has started.
          ended: whether the episode has ended; the other arguments are then those of its last step, but for reward,
            return and step.
          episode: number of the episode, from 1.
          times: frames of video that show it.

        Raises:
          UserError: ffmpeg cannot write the file.
          ValueError: the frame is not uint8 [H, W, 3] or has another size than the first one.
        """
        if not self._shape:
            self._start(frame.shape)
        if frame.shape != self._shape or frame.dtype != np.uint8:
            raise ValueError(f"expected frames uint8 {list(self._shape)}, got {frame.dtype} {list(frame.shape)}")
        picture = self._empty.copy()
        seen = Image.fromarray(np.ascontiguousarray(frame)).resize(self._frame_size, Image.Resampling.NEAREST)
        picture.paste(seen, self._frame_at)
        drawn = self._panel.draw(logits, value, action, reward, episode_return, step, ended, episode)
        picture.paste(drawn, self._panel_at)
        try:
            for _ in range(times):
                self._writer.send(picture.tobytes())
        except OSError as error:
            raise self._failure() from error
        self._num_frames += times
        self.last_frame = frame

    def discard(self) -> None:
        """Discards the video: no file will be left."""
        self._discarded = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: types.TracebackType | None
    ) -> None:
        if self._writer is None:
            return
        try:
            self._writer.close()
            if kind is None and not self._discarded:
                if self._frames_in_file() != self._num_frames:
                    raise self._failure()
                os.replace(self._unfinished, self._path)
        finally:
            self._unfinished.unlink(missing_ok=True)

    def _start(self, shape: tuple[int, ...]) -> None:
        """Computes the layout for frames of this shape and starts ffmpeg."""
        if len(shape) != 3 or shape[2] != 3:
            raise ValueError(f"expected frames [H, W, 3], got {list(shape)}")
        self._shape = shape
        height, width, _ = shape
        factor = max(1, min(round(_FRAME_HEIGHT / height), _FRAME_WIDTH // width))
        self._frame_size = factor * width, factor * height
        inner = max(factor * height, panel.MIN_HEIGHT)
        self._frame_at = _MARGIN, _MARGIN + (inner - factor * height) // 2
        self._panel_at = _MARGIN + factor * width + _GAP, _MARGIN
        # H.264 subsamples color by two, so width and height must be even.
        size = tuple(x + x % 2 for x in (self._panel_at[0] + panel.WIDTH + _MARGIN, inner + 2 * _MARGIN))
        self._empty = panel.canvas(*size)
        self._panel = panel.Panel(*self._titles, self._action_names, self._num_actions, inner)
        writer: Any = imageio_ffmpeg.write_frames(
            self._unfinished,
            size,
            fps=self._frames_per_second,
            codec="libx264",
            quality=None,
            macro_block_size=2,
            ffmpeg_log_level="fatal",
            output_params=["-preset", "veryfast", "-crf", "20", "-movflags", "+faststart"],
        )
        writer.send(None)
        self._writer = writer

    def _frames_in_file(self) -> int:
        """Counts the frames in the file, 0 if it cannot be read. Nothing else shows that ffmpeg has failed."""
        try:
            return imageio_ffmpeg.count_frames_and_secs(self._unfinished)[0]
        except (RuntimeError, OSError):
            return 0

    def _failure(self) -> UserError:
        return UserError(f"the video {self._path} cannot be written: is the disk full, or the folder read-only?")


def unfinished(path: Path) -> Path:
    """Returns the file to which a video is written until it is complete."""
    return path.with_name(f".{path.stem}.unfinished.mp4")


def check(path: Path) -> None:
    """Raises UserError if no new video can be written to `path`."""
    if path.suffix != ".mp4":
        raise UserError(f"the video {path} must have a name that ends in .mp4")
    if not path.parent.is_dir():
        raise UserError(f"the video {path} cannot be written: the folder {path.parent} does not exist")
    try:
        imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise UserError(
            "imageio-ffmpeg has no ffmpeg for this machine: set IMAGEIO_FFMPEG_EXE to an installed one"
        ) from error

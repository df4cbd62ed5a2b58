"""Draws the panel of a video: the agent's policy and value estimates, shown next to its environment."""

from __future__ import annotations

import collections
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WIDTH, MIN_HEIGHT = 400, 496
HISTORY = 200
MAX_BARS = 20

_BACKGROUND, _RAISED, _LINE = (18, 21, 26), (27, 31, 38), (54, 60, 70)
_TEXT, _MUTED = (232, 235, 239), (139, 147, 158)
_BLUE, _AMBER, _GREEN, _RED = (88, 166, 255), (255, 180, 84), (86, 211, 140), (255, 107, 107)

_POLICY_TOP = 222
_BARS_TOP = _POLICY_TOP + 20
_NAMES_WIDTH, _NUMBERS_WIDTH = 108, 48
_GAP = 12  # Between the title and the note.
_SMALL, _LARGE = 12, 20
_TITLES = range(22, 12, -1)  # Font sizes, the best first.
_CURVE_TOP, _CURVE_HEIGHT, _CURVE_WIDTH = 122, 84, WIDTH - _NUMBERS_WIDTH
_SMOOTHING = 3  # Pillow does not antialias lines: the curve is drawn this many times larger and then reduced.


def canvas(width: int, height: int) -> Image.Image:
    """Returns an empty image in the panel's background color."""
    return Image.new("RGB", (width, height), _BACKGROUND)


class Panel:
    """Draws title, episode, step, return and reward, the value over the last steps, and the policy as bars.

    Args:
      title: drawn smaller if it does not fit, and shortened if that is not enough.
      note: to the right of the title; never cut.
      action_names: one name per action, or () to show action numbers.
      num_actions: A; with more than `MAX_BARS` actions, only the most probable ones are drawn.
      height: height in pixels, at least `MIN_HEIGHT`.
    """

    def __init__(self, title: str, note: str, action_names: Sequence[str], num_actions: int, height: int):
        self._names = [name.lower() for name in action_names] or [f"action {a}" for a in range(num_actions)]
        self._values: collections.deque[float] = collections.deque(maxlen=HISTORY)
        self._rewards: collections.deque[float] = collections.deque(maxlen=HISTORY)
        self._last_step = -1
        rows = min(num_actions, MAX_BARS)
        self._row_height = min((height - _BARS_TOP) / rows, 26.0)
        self._bar_font_size = min(0.88 * self._row_height, 14.0)
        self._empty = self._draw_background(title, note, height)

    def draw(
        self,
        logits: np.ndarray,
        value: float,
        action: int,
        reward: float,
        episode_return: float,
        step: int,
        ended: bool = False,
        episode: int = 1,
    ) -> Image.Image:
        """Returns the panel for one agent step, `WIDTH` x height pixels; see `Video.add` for the arguments."""
        if step <= self._last_step:
            self._values.clear()
            self._rewards.clear()
        self._last_step = step
        self._values.append(float(value))
        self._rewards.append(float(reward))
        image = self._empty.copy()
        draw = ImageDraw.Draw(image)
        which = f"episode {episode}, {'end' if ended else 'step'}"
        _write(draw, 0, 44, which, _AMBER if ended else _MUTED, _SMALL)
        for column, text in enumerate([f"{step:,}", _number(episode_return), _number(reward)]):
            color = _sign_color(reward) if column == 2 and reward else _TEXT
            _write(draw, column * WIDTH // 3, 63, text, color, _LARGE)
        _write(draw, WIDTH, _CURVE_TOP - 16, f"{value:.2f}", _BLUE, _LARGE, right=True)
        image.paste(self._curve(), (0, _CURVE_TOP))
        self._draw_range(draw)
        self._draw_policy(draw, np.asarray(logits, np.float64), int(action))
        return image

    def _draw_background(self, title: str, note: str, height: int) -> Image.Image:
        image = canvas(WIDTH, height)
        draw = ImageDraw.Draw(image)
        title, size = _fitting(title, WIDTH - _font(_TITLES[-1]).getlength(note) - _GAP)
        _write(draw, 0, 12, title, _TEXT, size)
        _write(draw, WIDTH, 12, note, _MUTED, _TITLES[-1], right=True)
        for column, label in enumerate(["", "return", "reward"]):
            _write(draw, column * WIDTH // 3, 44, label, _MUTED, _SMALL)
        _write(draw, 0, _CURVE_TOP - 13, f"value, last {HISTORY} steps", _MUTED, _SMALL)
        _write(draw, 0, _POLICY_TOP + 8, "policy", _MUTED, _SMALL)
        return image

    def _range(self) -> tuple[float, float]:
        """Returns the curve's value range: the values plus a margin, wide enough that noise does not fill the plot."""
        low, high = min(self._values), max(self._values)
        room = max(0.1 * (high - low), 0.05 * max(abs(low), abs(high)), 0.05)
        return low - room, high + room

    def _curve(self) -> Image.Image:
        width, height = _CURVE_WIDTH * _SMOOTHING, _CURVE_HEIGHT * _SMOOTHING
        image = Image.new("RGB", (width, height), _RAISED)
        draw = ImageDraw.Draw(image)
        low, high = self._range()
        x = np.linspace(2, _CURVE_WIDTH - 4, HISTORY)[-len(self._values) :] * _SMOOTHING
        y = (1 - (np.array(self._values) - low) / (high - low)) * (height - 1)
        if low < 0 < high:
            zero = (1 + low / (high - low)) * (height - 1)
            draw.line([(0, zero), (width, zero)], _LINE, _SMOOTHING)
        for at, reward in zip(x, self._rewards):
            if reward:
                draw.line([(at, height - 12 * _SMOOTHING), (at, height)], _sign_color(reward), 2 * _SMOOTHING)
        points: Any = np.stack([x, y], axis=-1).ravel().tolist()
        if len(points) > 2:
            draw.line(points, _BLUE, 2 * _SMOOTHING)
        radius = 3 * _SMOOTHING
        draw.ellipse([x[-1] - radius, y[-1] - radius, x[-1] + radius, y[-1] + radius], _BLUE)
        return image.reduce(_SMOOTHING)

    def _draw_range(self, draw: ImageDraw.ImageDraw) -> None:
        low, high = self._range()
        for middle, text in ((_CURVE_TOP + 5, f"{high:.2f}"), (_CURVE_TOP + _CURVE_HEIGHT - 6, f"{low:.2f}")):
            _write(draw, WIDTH, middle, text, _MUTED, _SMALL, right=True)

    def _draw_policy(self, draw: ImageDraw.ImageDraw, logits: np.ndarray, action: int) -> None:
        policy = np.exp(logits - logits.max())
        policy /= policy.sum()
        left, full, size = _NAMES_WIDTH, WIDTH - _NAMES_WIDTH - _NUMBERS_WIDTH, self._bar_font_size
        for row, shown in enumerate(_shown(policy, action)):
            top, bottom = (round(_BARS_TOP + (row + edge) * self._row_height) for edge in (0.12, 0.88))
            middle = (top + bottom) // 2
            color, text_color = (_AMBER, _AMBER) if shown == action else (_BLUE, _TEXT)
            _write(draw, 0, middle, self._names[shown], text_color, size)
            draw.rectangle([left, top, left + full - 1, bottom - 1], _RAISED)
            length = max(round(full * policy[shown]), 1)
            draw.rectangle([left, top, left + length - 1, bottom - 1], color)
            _write(draw, WIDTH, middle, f"{policy[shown]:.1%}", text_color, size, right=True)


def _shown(policy: np.ndarray, action: int) -> list[int]:
    """Returns the actions to draw: all in order or, if too many, the most probable ones first, and the one taken."""
    if len(policy) <= MAX_BARS:
        return list(range(len(policy)))
    best = np.argsort(-policy, kind="stable")[:MAX_BARS].tolist()
    return best if action in best else [*best[:-1], action]


def _fitting(title: str, width: float) -> tuple[str, int]:
    """Returns the title and a font size at which it fits; without its middle if it fits at none."""
    for size in _TITLES:
        if _font(size).getlength(title) <= width:
            return title, size
    kept = len(title) - 1
    while _font(size).getlength(short := f"{title[: kept // 2]}...{title[len(title) - kept // 2 :]}") > width:
        kept -= 1
    return short, size


_font = functools.cache(lambda size: ImageFont.load_default(size=size))


@functools.lru_cache(4096)
def _lettering(text: str, size: float) -> Image.Image:
    """Renders text as a mask; cached, because most texts of a panel were on an earlier one."""
    font: Any = _font(size)
    ascent, descent = font.getmetrics()
    mask = Image.new("L", (int(font.getlength(text)) + 2, ascent + descent))
    ImageDraw.Draw(mask).text((0, 0), text, 255, font)
    return mask


def _write(
    draw: ImageDraw.ImageDraw, x: int, middle: int, text: str, color: tuple[int, int, int], size: float, right=False
) -> None:
    """Writes text that starts at x, or ends there if `right`, vertically centered on `middle`."""
    mask = _lettering(text, size)
    draw.bitmap((x - mask.width if right else x, middle - mask.height // 2), mask, color)


def _number(x: float) -> str:
    return f"{x:,.0f}" if x == round(x) else f"{x:,.2f}"


def _sign_color(reward: float) -> tuple[int, int, int]:
    return _GREEN if reward > 0 else _RED

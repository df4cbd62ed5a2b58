"""The picture of groups of runs, and their table."""

from __future__ import annotations

import matplotlib.colors
import numpy as np
import pytest

from impala_tf.errors import UserError
from impala_tf.experiments import group_picture
from impala_tf.experiments.run_groups import Curve, Group

FRAMES = np.array([0.0, 1e6, 2e6])


def group(panel, label, *finals, ends=FRAMES):
    curves = [Curve(ends, final * ends / ends[-1], int(ends[-1])) for final in finals]
    return Group(panel, label, curves)


def drawn(*groups, column="mean_return_100", against="frames"):
    return group_picture.draw(groups, column, against)


def lines(ax, width):
    return [line for line in ax.lines if line.get_linewidth() == width and line.get_linestyle() == "-"]


def test_a_panel_for_each_environment_and_a_color_for_each_label():
    figure = drawn(group("catch", "a", 1), group("catch", "b", 2), group("memory", "b", 3), group("memory", "c", 4))
    (legend,) = figure.legends
    colors = dict(zip([text.get_text() for text in legend.get_texts()], [x.get_color() for x in legend.get_lines()]))
    assert list(colors) == ["a", "b", "c"] and len(set(colors.values())) == 3
    panels = {ax.get_title(): ax for ax in figure.axes if ax.axison}
    assert list(panels) == ["catch", "memory"]
    for panel, expected in (("catch", {"a": 1, "b": 2}), ("memory", {"b": 3, "c": 4})):
        ends = {line.get_color(): line.get_ydata()[-1] for line in lines(panels[panel], 1.8)}
        assert ends == {colors[label]: final for label, final in expected.items()}
        assert panels[panel].get_xlabel() == "environment frames (millions)"
        assert lines(panels[panel], 1.8)[0].get_xdata()[-1] == 2


def test_three_runs_have_an_interval_and_two_are_lines():
    figure = drawn(group("catch", "a", 1, 2, 3), group("catch", "b", 7, 9), group("catch", "c", 5))
    (ax,) = figure.axes
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a (3 runs)", "b (2 runs)", "c (1 run)"]
    assert [line.get_ydata()[-1] for line in lines(ax, 1.8)] == [2, 8, 5]
    assert [line.get_ydata()[-1] for line in lines(ax, 0.7)] == [7, 9]
    (band,) = ax.collections
    assert matplotlib.colors.to_hex(band.get_facecolor()[0]) == lines(ax, 1.8)[0].get_color()
    at_end = band.get_paths()[0].vertices
    at_end = at_end[at_end[:, 0] == 2][:, 1]
    half = 4.3027 * 1 / np.sqrt(3)
    assert (at_end.min(), at_end.max()) == pytest.approx((2 - half, 2 + half), abs=1e-3)
    assert "95% interval" in figure.get_suptitle()


def test_runs_go_on_as_thin_lines_where_others_have_ended():
    long = group("catch", "a", 4, ends=2 * FRAMES).curves
    both = Group("catch", "a", [*group("catch", "a", 1, 2).curves, *long])
    (ax,) = drawn(both).axes
    assert lines(ax, 1.8)[0].get_xdata()[-1] == 2
    (beyond,) = lines(ax, 0.7)
    assert list(beyond.get_xdata()) == [2, 4] and list(beyond.get_ydata()) == [2, 4]


def test_levels_of_a_random_player_and_a_human():
    (ax,) = drawn(group("atari/pong", "", -20, 15, 18)).axes
    assert [text.get_text() for text in ax.texts] == ["random -20.71", "human 14.6"]
    low, high = ax.get_ylim()
    assert low < -21 and high > lines(ax, 1.8)[0].get_ydata().max()
    (ax,) = drawn(group("atari/pong", "", 1), column="entropy").axes
    assert not ax.texts and ax.get_ylabel() == "entropy"


@pytest.mark.parametrize(("hours", "label", "end"), [(0.5, "minutes", 30), (3.0, "hours", 3)])
def test_against_hours(hours, label, end):
    (ax,) = drawn(group("catch", "", 1, ends=np.array([0, hours])), against="hours").axes
    assert ax.get_xlabel() == f"{label} of training" and lines(ax, 1.8)[0].get_xdata()[-1] == pytest.approx(end)


def test_many_lines_have_many_colors_and_a_legend_that_fits():
    figure = drawn(*(group("catch", f"learning_rate=0.000{i}, entropy_cost=0.{i}", i) for i in range(100, 124)))
    assert len({tuple(line.get_color()) for line in lines(figure.axes[0], 1.8)}) == 24
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0
    assert figure.axes[0].get_window_extent().height > 300


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("new/b.SVG", b"<?xml"), ("c.pdf", b"%PDF")])
def test_the_suffix_is_the_format(tmp_path, name, start):
    file = tmp_path / name
    group_picture.check(file)
    group_picture.save(drawn(group("catch", "", 1, 2, 3)), file)
    assert file.read_bytes().startswith(start) and [path.name for path in file.parent.iterdir()] == [file.name]


def test_files_that_cannot_be_written_are_named(tmp_path):
    for name in ("plot", "plot.xyz", "plot.pgf"):
        with pytest.raises(UserError, match=rf"--output=\S*{name} must end with a format such as \.png"):
            group_picture.check(tmp_path / name)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--output=\S* cannot be written: (Not a directory|File exists)"):
        group_picture.save(drawn(group("catch", "", 1)), tmp_path / "file" / "plot.png")


def test_the_table():
    long = group("catch", "b", 1000, ends=2 * FRAMES).curves
    groups = [group("catch", "a", 0.1, 0.2, 0.3), Group("catch", "b", [*group("catch", "b", 0.05).curves, *long])]
    rows = [line.split("  ") for line in group_picture.table(groups, "x").splitlines()]
    assert [[cell.strip() for cell in row if cell.strip()] for row in rows] == [
        ["runs", "frames", "final x", "95% interval", "range"],
        ["a", "3", "2,000,000", "0.20", "-0.048 to 0.45", "0.10 to 0.30"],
        ["b", "2", "2,000,000 to 4,000,000", "500.0", "-", "0.05 to 1,000"],
    ]
    text = group_picture.table([*groups, group("memory", "", 1)], "x")
    assert "environment" in text and text.splitlines()[-1].split() == [
        "all",
        "memory",
        "1",
        "2,000,000",
        "1.00",
        "-",
        "-",
    ]

"""The picture of an experiment: its panels, and that they show the table's numbers."""

from __future__ import annotations

import dataclasses

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest

from impala_tf.experiments import picture, results
from impala_tf.experiments.catalogue.grid import Agent, Grid, Task

TASKS = (
    Task("one", {"env": "catch", "total_frames": 4000}, random=-0.6),
    Task("two_balls", {"env": "memory", "total_frames": 4000}, random=0.0),
)
AGENTS = (
    Agent("V-trace", "without replay", "x/a", {}),
    Agent("None", "without replay", "x/b", {}),
    Agent("V-trace", "with replay", "x/c", {}),
)
SEEDS = {f"seed_{seed}": {"seed": seed} for seed in (1, 2, 3)}
GRID = Grid(AGENTS, TASKS, SEEDS)
COMBINATIONS = {f"{number:02}": {"learning_rate": 0.001, "seed": number} for number in range(24)}
FRAMES = np.array([100, 2000, 4000])


def table(grid, agents=AGENTS):
    """Final returns are those of `final`; the curves are straight lines from 0."""
    rows = []
    for agent in agents:
        for task in grid.tasks:
            for number, repeat in enumerate(grid.repeats):
                means = np.linspace(0, final(grid, agent, task, number), 3)
                rows += [(agent.folder, task.name, repeat, frames, mean) for frames, mean in zip(FRAMES, means)]
    return pd.DataFrame(rows, columns=results.COLUMNS)


def final(grid, agent, task, number):
    """Neither ascending nor descending with the repeats."""
    return 1 + 0.1 * ((number * 7) % len(grid.repeats)) + "abc".index(agent.folder[-1]) + 10 * len(task.name)


def lines_of(ax, label, figure):
    """The axes' lines in the color that the legend gives a label: [(x, y)], the widest first."""
    (legend,) = figure.legends
    colors = {text.get_text(): line.get_color() for text, line in zip(legend.get_texts(), legend.get_lines())}
    wanted = matplotlib.colors.to_rgb(colors[label])
    own = [line for line in ax.get_lines() if matplotlib.colors.to_rgb(line.get_color()) == wanted]
    return [line.get_xydata().T for line in sorted(own, key=lambda line: -line.get_linewidth())]


def rows_of(figure):
    """Its axes, by rows."""
    rows = figure.axes[0].get_subplotspec().get_gridspec().nrows
    return np.array(figure.axes, dtype=object).reshape(rows, -1)


def test_there_is_a_row_for_each_group_and_a_panel_for_each_task_and_the_scores():
    figure = picture.draw("Table 2: the title", GRID, table(GRID))
    axes = rows_of(figure)
    assert axes.shape == (2, 3)
    assert [ax.get_title() for ax in axes[0]] == ["one", "two balls", ""]
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["without replay\nreturn", "with replay\nreturn"]
    assert {ax.get_xlabel() for ax in axes[:, :2].flat} == {"environment frames (thousands)"}
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["V-trace", "None"]
    assert figure.get_suptitle() == (
        "Table 2: the title\nmean and range of the 3 seeds; scores: interquartile mean, 95% interval"
    )


def test_curves_are_the_mean_and_the_range_of_the_runs():
    figure = picture.draw("T", GRID, table(GRID))
    for row, agent in ((0, AGENTS[0]), (0, AGENTS[1]), (1, AGENTS[2])):
        for task, ax in zip(TASKS, rows_of(figure)[row]):
            finals = [final(GRID, agent, task, number) for number in range(3)]
            mean, *edges = lines_of(ax, agent.label, figure)
            np.testing.assert_allclose(mean[0, [0, -1]], [0.1, 4.0])
            np.testing.assert_allclose(mean[1, [0, -1]], [0.0, np.mean(finals)])
            assert [edge[1, -1] for edge in edges] == pytest.approx([min(finals), max(finals)])
            # Halfway, at 2,000 frames, and between the points.
            assert np.interp(2.0, *mean) == pytest.approx(np.mean(finals) / 2, rel=0.02)
    with_replay = rows_of(figure)[1, 0]
    assert not lines_of(with_replay, "None", figure)


def test_curves_end_where_the_shortest_run_ends():
    data = table(GRID, AGENTS[:1])
    data.loc[(data["repeat"] == "seed_2") & (data["frames"] == 4000), "frames"] = 5000
    data.loc[(data["repeat"] == "seed_3") & (data["frames"] == 100), "frames"] = 500
    figure = picture.draw("T", GRID, data)
    mean = lines_of(rows_of(figure)[0, 0], "V-trace", figure)[0]
    assert mean[0, [0, -1]].tolist() == [0.5, 4.0]


def test_the_scores_are_the_estimates():
    data = table(GRID)
    figure = picture.draw("T", GRID, data)
    ax = rows_of(figure)[0, -1]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["V-trace", "None"]
    assert len(ax.containers) == 2
    for place, (container, agent) in enumerate(zip(ax.containers, AGENTS)):
        value, low, high = results.estimate(results.scores(data, agent.folder, GRID))
        point, _, (bar,) = container.lines
        assert point.get_xydata().tolist() == [[value, -place]]
        assert bar.get_segments()[0][:, 0] == pytest.approx([low, high])


def test_scores_far_below_random_are_inside_the_panel():
    data = table(GRID)
    data.loc[data["agent"] == "x/b", "mean_return_100"] -= 100
    figure = picture.draw("T", GRID, data)
    ax = rows_of(figure)[0, -1]
    low = results.estimate(results.scores(data, "x/b", GRID)).low
    assert low < -1 and ax.get_xlim()[0] < low < 1 < ax.get_xlim()[1]


def test_agents_without_runs_are_left_out():
    figure = picture.draw("T", GRID, table(GRID, AGENTS[:1]))
    axes = rows_of(figure)
    assert lines_of(axes[0, 0], "V-trace", figure) and not lines_of(axes[0, 0], "None", figure)
    assert not axes[1, 0].get_lines() and len(axes[0, -1].containers) == 1


def test_a_sweep_shows_its_best_3_and_the_final_returns_of_all():
    sweep = dataclasses.replace(GRID, repeats=COMBINATIONS)
    data = table(sweep)
    figure = picture.draw("Figure 4: a title that is too long for one line of a picture", sweep, data)
    axes = rows_of(figure)
    assert axes.shape == (4, 3)
    finals = sorted((final(sweep, AGENTS[0], TASKS[0], number) for number in range(24)), reverse=True)
    mean, *edges = lines_of(axes[0, 0], "V-trace", figure)
    assert mean[1, -1] == pytest.approx(np.mean(finals[:3]))
    assert [edge[1, -1] for edge in edges] == pytest.approx([finals[2], finals[0]])
    ((numbers, drawn),) = lines_of(axes[1, 0], "V-trace", figure)
    assert numbers.tolist() == list(range(1, 25)) and drawn == pytest.approx(finals)
    assert axes[1, 0].get_ylabel() == "final return" and not axes[1, -1].axison
    assert "mean and range of the best 3 of 24 combinations" in figure.get_suptitle()

    data = data[(data["task"] == "one") | (data["repeat"] != "05")]  # It lacks a task.
    figure = picture.draw("T", sweep, data)
    ((numbers, drawn),) = lines_of(rows_of(figure)[1, 1], "V-trace", figure)
    assert numbers.tolist() == list(range(1, 24)) and not np.isnan(drawn).any()


def test_without_scores_there_is_no_panel_for_them():
    tasks = tuple(Task(task.name, {**task.settings, "total_frames": 10**9}) for task in TASKS)
    grid = dataclasses.replace(GRID, tasks=tasks, repeats={"1": {"seed": 1}})
    data = table(grid)
    data["frames"] *= 250_000
    figure = picture.draw("T", grid, data)
    axes = rows_of(figure)
    assert axes.shape == (2, 2) and axes[0, 0].get_xlabel() == "environment frames (millions)"
    assert lines_of(axes[0, 0], "V-trace", figure)[0][0, -1] == 1000
    assert figure.get_suptitle() == "T\nmean and range of the one seed"


def test_title_and_legend_are_inside_the_picture():
    one_task = dataclasses.replace(
        GRID,
        tasks=TASKS[:1],
        repeats=COMBINATIONS,
        agents=tuple(
            Agent(f"An agent with as long a name as this, number {number}", "", f"x/{number}", {})
            for number in range(4)
        ),
    )
    figure = picture.draw("Figure 4: IMPALA, batched A2C and A3C over many hyperparameters", one_task, table(GRID))
    figure.canvas.draw()
    whole = figure.bbox
    for artist in (figure._suptitle, figure.legends[0]):
        box = artist.get_window_extent()
        assert whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0 and box.y1 <= whole.y1


@pytest.mark.parametrize("repeats", [SEEDS, COMBINATIONS], ids=["seeds", "sweep"])
def test_many_tasks_are_below_each_other(repeats):
    tasks = tuple(Task(f"task {number}", {"env": "catch", "total_frames": 4000}) for number in range(14))
    grid = dataclasses.replace(GRID, tasks=tasks, repeats=repeats)
    figure = picture.draw("T", grid, table(grid))
    axes = rows_of(figure)
    rows_of_group = 6 if grid.sweep else 3  # With the final returns below the curves.
    assert axes.shape == (2 * rows_of_group, 6)
    for group in (0, rows_of_group):
        titles = [ax.get_title() for ax in axes[group : group + 3].flat]
        assert titles == [task.name for task in tasks] + [""] * 4
        assert [ax.axison for ax in axes[group : group + 3].flat] == [True] * 14 + [False] * 4
        assert all(ax.get_lines() for ax in axes[group : group + 3].flat[:14])
    assert [ax.get_ylabel() for ax in axes[:, 0]].count("with replay\nreturn") == 1

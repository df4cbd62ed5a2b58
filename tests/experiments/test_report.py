"""What is said about experiments: how much of them there is, their command lines, what they have shown."""

from __future__ import annotations

import dataclasses
import shlex

import pandas as pd
import pytest

from impala_tf.experiments import catalogue, report, results
from impala_tf.experiments.catalogue.grid import Agent, Claim, Experiment, Grid, Task

TASKS = (
    Task("one", {"env": "catch", "total_frames": 1000}, random=0.0),
    Task("two", {"env": "memory", "total_frames": 500}, random=4.0),
)
AGENTS = (Agent("V-trace", "with replay", "x/a", {"fire_on_reset": True}), Agent("None", "", "x/b", {}))
SEEDS = {f"seed_{seed}": {"seed": seed} for seed in range(1, 6)}
GRID = Grid(AGENTS, TASKS, SEEDS, settings={"learning_rate": 1e-05})
EXPERIMENT = Experiment(
    "table_x",
    "Table X: agents",
    {"machine": GRID},
    (Claim("V-trace scores higher than None.", "x/a", "x/b"), Claim("The best 3 agree.", "x/b", "x/a", best=3)),
)


def table(finals):
    """The table of {(agent, task): final returns}."""
    rows = [
        (agent, task, repeat, frames, value)
        for (agent, task), values in finals.items()
        for repeat, last in zip(SEEDS, values)
        for frames, value in ((10, -5.0), (1000, last))
    ]
    return pd.DataFrame(rows, columns=results.COLUMNS)


WHOLE = {
    ("x/a", "one"): [0.8, 0.9, 1.0, 0.8, 1.0],
    ("x/a", "two"): [7.0, 8.0, 9.0, 8.0, 8.0],
    ("x/b", "one"): [0.0, 0.1, 0.2, 0.0, 0.2],
    ("x/b", "two"): [4.0, 5.0, 4.0, 5.0, 4.5],
}


def train(root, run, frames):
    (root / run).mkdir(parents=True)
    (root / run / "progress.csv").write_text(f"frames,seconds,mean_return_100\n10,1,0\n{frames},5,0.5\n")


def test_the_overview_counts_the_runs_that_have_all_their_frames(tmp_path):
    train(tmp_path / "machine", "x/a/one/seed_1", 1000)
    train(tmp_path / "machine", "x/b/two/seed_2", 520)
    train(tmp_path / "machine", "x/b/one/seed_2", 999)
    (tmp_path / "machine" / "x/b/one/seed_3").mkdir()
    both = dataclasses.replace(
        EXPERIMENT, name="b", title="B", grids={"machine": GRID, "paper": GRID}, otherwise="a command"
    )
    none = Experiment("t", "Table T", {}, otherwise="impala-benchmark")
    lines = report.overview([EXPERIMENT, both, none], tmp_path).splitlines()
    assert [line.split() for line in lines] == [
        ["machine:", "trained", "paper:", "trained"],
        ["table_x", "2", "of", "20", "-", "Table", "X:", "agents"],
        ["b", "2", "of", "20", "0", "of", "20", "B"],
        ["a", "command"],
        ["t", "-", "-", "Table", "T"],
        ["impala-benchmark"],
    ]
    titles = [line.index(title) for line, title in zip(lines[1:], ("Table X", "B", "a command", "Table T", "impala"))]
    assert [place - titles[0] for place in titles] == [0, 0, 2, 0, 2]
    assert len(report.overview(list(catalogue.ALL.values()), tmp_path).splitlines()) > len(catalogue.ALL)


def test_command_lines_have_the_settings_and_the_folder_of_each_run(tmp_path):
    runs = list(GRID.runs())
    lines = report.command_lines(GRID, runs[:2], tmp_path / "the runs").splitlines()
    assert [shlex.split(line) for line in lines] == [
        [
            *("impala-train", "--learning_rate=1e-05", "--env=catch", "--total_frames=1000", *flags, "--seed=1"),
            f"--logdir={tmp_path}/the runs/x/{agent}/one/seed_1",
        ]
        for agent, flags in (("a", ["--fire_on_reset=true"]), ("b", []))
    ]
    with_setup = dataclasses.replace(GRID, setup="catch")
    assert report.command_lines(with_setup, runs[:1], tmp_path).startswith(
        "impala-train --setup=catch --learning_rate="
    )


def test_the_outcome_has_final_returns_scores_and_what_became_of_the_claims():
    found = table(WHOLE)
    head, first, second, empty, *claims = report.outcome(EXPERIMENT, "machine", found).splitlines()
    assert head.split() == ["one", "two", "score"] and empty == ""
    scores = [results.estimate(results.scores(found, agent, GRID)) for agent in ("x/a", "x/b")]
    assert " ".join(first.split()) == (
        f"V-trace, with replay 0.90 (0.80 to 1.00) 8.00 (7.00 to 9.00) "
        f"{scores[0].value:.2f} ({scores[0].low:.2f} to {scores[0].high:.2f})"
    )
    assert " ".join(second.split()) == (
        f"None 0.10 (0.00 to 0.20) 4.50 (4.00 to 5.00) "
        f"{scores[1].value:.2f} ({scores[1].low:.2f} to {scores[1].high:.2f})"
    )
    by, best = (verdict.difference for verdict in results.judge(EXPERIMENT, "machine", found))
    assert by.low > 0 > best.high
    assert claims == [
        f"V-trace scores higher than None. confirmed: difference of scores {by}.",
        f"The best 3 agree. contradicted: difference of scores {best}.",
    ]


def test_two_runs_have_no_range_and_a_repeat_that_lacks_a_task_no_score():
    found = table({**WHOLE, ("x/b", "two"): [4.0, 4.5]})
    _, _, second, _, *claims = report.outcome(EXPERIMENT, "machine", found).splitlines()
    score = results.estimate(results.scores(found, "x/b", GRID))
    assert score.value == pytest.approx(0.05)
    assert " ".join(second.split()) == (
        f"None 0.10 (0.00 to 0.20) 4.25 {score.value:.2f} ({score.low:.2f} to {score.high:.2f})"
    )
    assert claims == [f"{claim.text} undecided: not enough runs." for claim in EXPERIMENT.claims]


def test_what_is_missing_is_a_dash():
    text = report.outcome(EXPERIMENT, "machine", table({("x/a", "one"): [0.5]}))
    assert [line.split()[-3:] for line in text.splitlines()[1:3]] == [["0.50", "-", "-"], ["-", "-", "-"]]
    assert "V-trace scores higher than None. undecided: not enough runs." in text


def test_without_scores_there_are_no_verdicts():
    unknown = tuple(Task(task.name, task.settings) for task in TASKS)
    experiment = dataclasses.replace(EXPERIMENT, grids={"paper": dataclasses.replace(GRID, tasks=unknown)})
    lines = report.outcome(experiment, "paper", table(WHOLE)).splitlines()
    assert len(lines) == 3 and lines[0].split() == ["one", "two"]
    assert lines[2].split() == ["None", "0.10", "(0.00", "to", "0.20)", "4.50", "(4.00", "to", "5.00)"]

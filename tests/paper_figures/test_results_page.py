"""RESULTS.md says what the logs in the repository show."""

from __future__ import annotations

import pathlib

import pytest

from impala_tf.experiments import catalogue, results

ROOT = pathlib.Path(__file__).parents[2]
DATA = ROOT / "paper_figures" / "data" / "one_machine"
LOGS = sorted(DATA.glob("*.csv"))
PAGE = (ROOT / "RESULTS.md").read_text()


def lines(name):
    """The row of the page's table for each claim of an experiment."""
    table = results.read(DATA / f"{name}.csv")
    for verdict in results.judge(catalogue.find(name), "machine", table):
        yield f"| {verdict.claim.text} | {verdict.word} | {verdict.difference or 'too few runs'} |"


@pytest.mark.parametrize("name", [file.stem for file in LOGS])
def test_every_verdict_is_that_of_the_logs(name):
    missing = [line for line in lines(name) if line not in PAGE]
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("name", [file.stem for file in LOGS])
def test_the_logs_have_every_run_of_the_grid(name):
    table = results.read(DATA / f"{name}.csv")
    runs = {tuple(run) for run in table[["agent", "task", "repeat"]].itertuples(index=False)}
    grid = catalogue.find(name).grids["machine"]
    assert runs == {(run.agent.folder, task.name, run.repeat) for run in grid.runs() for task in run.tasks}


def test_every_experiment_with_claims_is_on_the_page():
    for experiment in catalogue.ALL.values():
        if experiment.claims:
            assert f"impala-experiment run {experiment.name}`" in PAGE, experiment.name

"""Tests that every notebook is short, lists valid commands, runs without a display, and draws the runs it finds."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pandas as pd
import PIL.Image
import pytest

from impala_tf import suites
from impala_tf.experiments import catalogue

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "paper_figures"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
WITHOUT_RUNS = {"figure_1", "figure_2", "figure_3", "figure_d1"}
PICTURES = sorted(path.stem for path in (FOLDER / "figures").glob("*.png"))
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}


def cells(name):
    """The cells as dictionaries. nbformat would take seconds to import, in each worker that collects these tests."""
    cells = json.loads((FOLDER / f"{name}.ipynb").read_text())["cells"]
    return [cell | {"source": "".join(cell["source"])} for cell in cells]


# Committed contents


def test_there_is_a_notebook_for_each_figure_and_table():
    figures = {f"figure_{name}" for name in ("1", "2", "3", "4", "5", "6", "b1", "d1", "e1", "e2", "e3", "e4", "f1")}
    assert figures | {f"table_{name}" for name in ("1", "2", "3", "4", "b1", "c1")} | {"section_5_2_2"} == set(
        NOTEBOOKS
    )


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_is_short_and_has_no_outputs(name):
    first, *code = cells(name)
    assert first["cell_type"] == "markdown" and first["source"].startswith("# ")
    assert re.search(r"impala-|python -m|[Nn]o run", first["source"])
    assert 1 <= len(code) <= 2 and all(cell["cell_type"] == "code" for cell in code)
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert sum(len(cell["source"].splitlines()) for cell in code) <= 40


def test_each_experiment_has_a_notebook_and_a_picture_of_its_runs_on_one_machine():
    for name, experiment in catalogue.ALL.items():
        code = "\n".join(cell["source"] for cell in cells(name)[1:])
        drawn = f'plotting.save(plotting.on_one_machine("{name}"), "{name}_machine")'
        assert (drawn in code) == ("machine" in experiment.grids), name


def test_the_catalogue_knows_every_folder_that_the_notebooks_name():
    known = [folder for experiment in catalogue.ALL.values() for folder in experiment.populations.values()]
    for experiment in catalogue.ALL.values():
        known += [agent.folder for grid in experiment.grids.values() for agent in grid.agents]
    named = {path for name in NOTEBOOKS for path in re.findall(r"runs/paper/([\w/]+)", cells(name)[0]["source"])}
    assert "table_4/impala_deep/" in named
    for path in named:
        parts = path.strip("/").split("/")
        assert any(all(x == y for x, y in zip(parts, folder.split("/"))) for folder in known), path


# Commands


def commands():
    """Returns {program: its command lines in the notebooks}, with values substituted for shell variables."""
    found = {}
    for name in NOTEBOOKS:
        text = cells(name)[0]["source"].replace("\\\n", " ")
        for line in re.findall(r"^ *(impala-\w+ .*)$", text, re.MULTILINE):
            line = re.sub(r"\$\w+", "level", line)
            found.setdefault(line.split()[0], set()).add(line)
    return found


COMMANDS = commands()


IN_FORKS = """
import importlib, json, os, sys
main = importlib.import_module(sys.argv[1]).main
for arguments in json.load(sys.stdin):
    if not os.fork():
        sys.argv[1:] = arguments
        main()
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""
"""Runs a program once with each list of arguments; it is imported once for all."""


@pytest.mark.parametrize("program", COMMANDS)
def test_commands_have_valid_flags(program, tmp_path):
    scripts = re.findall(r'^(impala-\w+) = "([\w.]+):main"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    (tmp_path / "run").symlink_to(ROOT / "run")
    # Names of experiments are no flags; see below.
    different = sorted({re.sub(r"(impala-experiment \w+) \w+", r"\1 table_2", line) for line in COMMANDS[program]})
    lines = json.dumps([[*shlex.split(line)[1:], "--only_check_args"] for line in different])
    command = [sys.executable, "-c", IN_FORKS, dict(scripts)[program]]
    options = {"cwd": tmp_path, "env": ENVIRONMENT, "capture_output": True, "text": True, "timeout": 100}
    done = subprocess.run(command, input=lines, **options)
    assert (done.returncode, done.stderr) == (0, ""), list(zip(different, done.stdout.split()))
    assert done.stdout.split() == ["0"] * len(different), list(zip(different, done.stdout.split()))


def test_experiments_of_the_commands_exist():
    lines = [shlex.split(line) for line in COMMANDS["impala-experiment"]]
    assert {(action, name) for _, action, name, *_ in lines} >= {("run", "table_2"), ("list", "table_2")}
    for _, _, name, *options in lines:
        assert ("paper" if "--scale=paper" in options else "machine") in catalogue.find(name).grids


# Execution


def write_run(folder, env, height=1.0):
    """Writes a run of five rows whose return rises to 40 `height`."""
    folder.mkdir(parents=True)
    rise = np.linspace(0, height, 5)
    progress = {"frames": 1e8 * np.arange(1, 6), "seconds": 3600.0 * np.arange(1, 6), "mean_return_100": 40 * rise}
    progress |= {"learning_rate": 1e-3 * rise[::-1], "human_normalised": rise, "human_normalised_mean_capped": rise}
    pd.DataFrame(progress).to_csv(folder / "progress.csv", index=False)
    tasks = [
        {"frames": 5e8, "task": name, "mean_return_100": 1.0, "human_normalised": height} for name in env.split(",")
    ]
    if len(tasks) > 1:
        pd.DataFrame(tasks).to_csv(folder / "tasks.csv", index=False)
    (folder / "config.json").write_text(json.dumps({"env": env}))


def write_evaluation(file, tasks):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"tasks": {task: {"mean": 12.34, "episodes": []} for task in tasks}}))


def write_runs(runs):
    """Writes runs or evaluations for every notebook that draws them."""
    for name, repeats, tasks in (
        ("figure_4", 4, 2),
        *((other, 1, 2) for other in ("figure_e1", "table_2", "figure_e3", "section_5_2_2")),
        ("figure_5", 2, 30),
    ):
        grid = catalogue.find(name).grids["paper"]
        few = dict(itertools.islice(grid.repeats.items(), repeats))
        for number, run in enumerate(dataclasses.replace(grid, tasks=grid.tasks[:tasks], repeats=few).runs()):
            folder = runs / "paper" / run.folder
            if not folder.exists():  # Experiments share runs.
                write_run(folder, run.settings["env"], 1 / (1 + number % 7))
    write_run(runs / "pong", "atari/pong", 0.5)
    write_run(
        runs / "atari_six", "atari/boxing,atari/breakout,atari/krull,atari/pong,atari/space_invaders,atari/up_n_down"
    )
    benchmark = json.loads((ROOT / "docs" / "benchmarks" / "default.json").read_text())
    (runs / "table_1").mkdir()
    (runs / "table_1" / "lab.json").write_text(json.dumps({**benchmark, "environment": "dmlab/seekavoid_arena_01"}))
    for table in ("table_3", "table_b1"):
        write_evaluation(runs / table / "my_agent.json", suites.env_ids("dmlab30", test=True))
    write_evaluation(runs / "table_4" / "my_pong.json", ["atari/pong"])
    for game in suites.env_ids("atari57"):
        write_evaluation(runs / "table_4" / "my_experts" / f"{game.partition('/')[2]}.json", [game])


def execute(*arguments):
    command = [sys.executable, str(FOLDER / "execute.py"), *map(str, arguments)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=280)


@pytest.fixture(scope="module")
def without_runs(tmp_path_factory):
    """Folder with the pictures drawn without runs."""
    folder = tmp_path_factory.mktemp("without_runs")
    before = {path: path.read_bytes() for path in FOLDER.glob("*.ipynb")}
    done = execute("--at_once=1", "--runs", folder / "none", "--figures", folder)  # Each kernel imports everything.
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in FOLDER.glob("*.ipynb")} == before
    return folder


@pytest.fixture(scope="module")
def with_runs(tmp_path_factory):
    """Folder with the pictures drawn with runs."""
    folder = tmp_path_factory.mktemp("with_runs")
    write_runs(folder / "runs")
    # One process for all notebooks saves time; `without_runs` already tests that each of them runs in a kernel. What a
    # second cell draws is in the repository.
    sources = [cells(name)[1]["source"] for name in NOTEBOOKS if name not in WITHOUT_RUNS]
    program = "import json, sys\nfor source in json.load(sys.stdin): exec(source, {'__name__': '__main__'})"
    environment = {**ENVIRONMENT, "IMPALA_RUNS": str(folder / "runs"), "IMPALA_FIGURES": str(folder)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, input=json.dumps(sources), cwd=FOLDER, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    return folder


def pixels(path):
    return np.asarray(PIL.Image.open(path).convert("RGB"), np.int16)


@pytest.mark.slow(3)
def test_every_picture_is_committed(without_runs):
    assert sorted(path.stem for path in without_runs.glob("*.png")) == PICTURES


@pytest.mark.slow(3)
@pytest.mark.parametrize("name", PICTURES)
def test_committed_picture_is_up_to_date(name, without_runs):
    """`make figures` updates the pictures. A few pixels may depend on the processor."""
    assert (without_runs / f"{name}.svg").read_text().startswith("<?xml")
    picture, committed = pixels(without_runs / f"{name}.png"), pixels(FOLDER / "figures" / f"{name}.png")
    assert picture.shape == committed.shape
    assert np.mean(np.abs(picture - committed).max(axis=-1) > 40) < 1e-3
    assert (FOLDER / "figures" / f"{name}.png").stat().st_size < 200_000


@pytest.mark.slow(1)
@pytest.mark.parametrize("name", sorted(set(NOTEBOOKS) - WITHOUT_RUNS))
def test_notebook_draws_new_runs(name, without_runs, with_runs):
    assert (without_runs / f"{name}.png").read_bytes() != (with_runs / f"{name}.png").read_bytes()


@pytest.mark.slow(3)
def test_failing_notebooks_are_named_and_do_not_disturb_the_others(tmp_path):
    """One kernel executes them all, and another one what is left if it dies; names do not reach the next notebook."""
    sources = {
        "good": "mine = 1",
        "bad": "assert 'mine' not in globals()\nraise ValueError('what is wrong')",
        "dead": "import os\nos._exit(1)",
        "fine": "assert 'mine' not in globals()",
    }
    for name, source in sources.items():
        cell = {"cell_type": "code", "source": source, "outputs": [], "execution_count": None, "metadata": {}}
        notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
        (tmp_path / f"{name}.ipynb").write_text(json.dumps(notebook))
    done = execute("--at_once=1", "--figures", tmp_path, *(tmp_path / f"{name}.ipynb" for name in sources))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "ERROR: bad.ipynb: ValueError: what is wrong",
        "ERROR: dead.ipynb: Kernel died",
        "ERROR: 2 of 4 notebooks failed: bad.ipynb, dead.ipynb",
    ]
    assert re.findall(r"^  (\w+) \(", done.stdout, re.MULTILINE) == ["good", "fine"]

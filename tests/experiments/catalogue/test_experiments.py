"""Every experiment at every scale: its runs can be trained, and are those of the paper."""

from __future__ import annotations

import collections
import functools
import pathlib
import re

import numpy as np
import pytest

from impala_tf import config as config_lib
from impala_tf import environments, suites, topology
from impala_tf.config import Config
from impala_tf.errors import UserError
from impala_tf.experiments import catalogue, sweep
from impala_tf.experiments.catalogue import corrections, one_machine, paper
from impala_tf.experiments.catalogue.grid import SCALES, Agent, Grid, Planned, Task
from impala_tf.suites.tasks import names as task_names
from run import setups

GRIDS = [(each, scale, grid) for each in catalogue.ALL.values() for scale, grid in each.grids.items()]
every_grid = pytest.mark.parametrize(
    ("experiment", "scale", "grid"), GRIDS, ids=[f"{each.name}-{scale}" for each, scale, _ in GRIDS]
)


@functools.cache
def shared(setup: str) -> dict:
    return setups.settings(setup) if setup else {}


def config_of(grid: Grid, run: Planned) -> Config:
    """Its settings but for the folder."""
    return config_lib.from_values({**shared(grid.setup), **run.settings})


@every_grid
def test_the_settings_of_every_run_can_be_trained(experiment, scale, grid):
    configs = [config_of(grid, run) for run in grid.runs()]
    for run, config in zip(grid.runs(), configs):
        tasks = task_names(config.environment.env)
        assert len(tasks) == len(run.tasks)
        topology.resolve(config, len(tasks), topology.alone("localhost:0"))
        assert config.run.total_frames == sum(task.settings["total_frames"] for task in run.tasks)
    assert all(set(agent.settings) & {"env", "total_frames", "seed"} == set() for agent in grid.agents)
    # Repeats differ: no two runs of an agent on a task compute the same.
    assert len({str(own) for own in grid.repeats.values()}) == len(grid.repeats)
    assert scale in SCALES and len(configs) == len(set(run.folder for run in grid.runs()))


@every_grid
def test_agents_compared_in_an_experiment_have_other_settings_and_names(experiment, scale, grid):
    assert len({(agent.label, agent.group) for agent in grid.agents}) == len(grid.agents)
    assert len({agent.folder for agent in grid.agents}) == len(grid.agents)
    assert len({task.name for task in grid.tasks}) == len(grid.tasks)
    compared: dict[tuple, list[Config]] = {}
    for run in grid.runs():
        compared.setdefault((run.repeat, *(task.name for task in run.tasks)), []).append(config_of(grid, run))
    for configs in compared.values():
        assert all(configs.count(config) == 1 for config in configs)


@pytest.mark.parametrize("scale", SCALES)
def test_runs_in_the_same_folder_are_the_same_whichever_experiments_share_them(scale):
    seen: dict[pathlib.PurePath, Config] = {}
    again = 0
    for experiment in catalogue.ALL.values():
        if scale in experiment.grids:
            grid = experiment.grids[scale]
            for run in grid.runs():
                config = config_of(grid, run)
                again += run.folder in seen
                assert seen.setdefault(run.folder, config) == config, f"{experiment.name}: {run.folder}"
    assert again > 100
    inside = [folder for folder in seen if any(parent in seen for parent in folder.parents)]
    assert not inside
    assert all(re.fullmatch(r"[a-z0-9_]+", part) for folder in seen for part in folder.parts)


@every_grid
def test_where_there_are_scores_the_claims_name_agents_of_the_grid(experiment, scale, grid):
    folders = {agent.folder for agent in grid.agents}
    for claim in experiment.claims:
        assert claim.higher != claim.lower and claim.text.endswith(".")
        assert claim.best <= len(grid.repeats)
        if grid.scored:
            assert {claim.higher, claim.lower} <= folders
    assert len({claim.text for claim in experiment.claims}) == len(experiment.claims)
    if scale == "machine":
        assert grid.scored and experiment.claims


def test_runs_go_through_the_repeats_one_after_the_other():
    a = Agent("A", "", "x/a", {"torso": "shallow", "num_actors": 3}, together=True)
    b = Agent("B", "", "x/b", {"num_actors": 2})
    tasks = (
        Task("one", {"env": "catch", "total_frames": 10, "num_actors": 1, "seed": 7}),
        Task("two", {"env": "memory", "total_frames": 20}),
    )
    grid = Grid((a, b), tasks, {"r": {"seed": 1}, "s": {"seed": 2, "num_actors": 5}}, settings={"unroll_length": 4})
    runs = list(grid.runs())
    assert [str(run.folder) for run in runs] == [
        *("x/b/one/r", "x/b/two/r", "x/a/r", "x/b/one/s", "x/b/two/s", "x/a/s"),
    ]
    every = {"unroll_length": 4}
    assert runs[0].settings == {**every, "env": "catch", "total_frames": 10, "num_actors": 2, "seed": 1}
    both = {"env": "catch,memory", "total_frames": 30, "torso": "shallow"}
    assert runs[2].settings == {**every, **both, "num_actors": 3, "seed": 1}
    assert runs[5].settings == {**every, **both, "num_actors": 5, "seed": 2}
    assert runs[5].tasks == tasks and runs[4].tasks == tasks[1:]


def test_combinations_are_those_of_impala_sweep():
    drawn = sweep.draw(seed=1)
    assert list(one_machine.COMBINATIONS) == [f"{number:02}" for number in range(24)]
    for (name, settings), values in zip(one_machine.COMBINATIONS.items(), drawn):
        assert settings == {**values, "seed": int(name) + 1}


@pytest.mark.parametrize("task", one_machine.TASKS, ids=lambda task: task.name)
def test_random_is_what_a_random_policy_reaches(task):
    """As many episodes of every instance: the first ones to end would be the short ones."""
    if task.settings["env"].startswith("minatar/"):
        pytest.importorskip("minatar")
    instances, each = 20, 20
    environment = environments.make(task.settings["env"], instances, seed=5)
    environment.reset()
    random, returns = np.random.default_rng(5), [[] for _ in range(instances)]
    while min(map(len, returns)) < each:
        output = environment.step(random.integers(environment.spec.num_actions, size=instances))
        for number in np.flatnonzero(output.terminated | output.truncated):
            returns[number].append(output.episode_return[number])
    played = np.array([own[:each] for own in returns])
    environment.close()
    assert task.random == pytest.approx(played.mean(), abs=4 * played.std() / played.size**0.5)


def test_random_is_the_published_score_on_atari():
    games = [task for grid in (g for _, scale, g in GRIDS if scale == "machine") for task in grid.tasks]
    games = [task for task in games if task.settings["env"].startswith("atari/")]
    assert len(games) == 3 + 2
    for task in games:
        published = [suites.reference_scores(task.settings["env"], name) for name in suites.references("atari57")]
        assert task.random in [random for random, _ in published]


# The paper's numbers


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("table_2", 5 * 8 * 24),  # Levels, four corrections with replay and without, combinations.
        ("figure_4", 5 * 4 * 24),
        ("figure_e1", 5 * 3 * 5),  # Two corrections and none, five lags; a single run of each.
        ("figure_e2", 5 * 4 * 24),
        ("figure_e3", 5 * 2 * 24),
        ("section_5_2_2", 5 * 3 * 24),
        ("figure_5", 3 * 24 + 30 * 24),  # The experts have a network for each level.
        ("table_4", 57 * 4),
    ],
)
def test_the_paper_has_so_many_runs(name, runs):
    assert len(list(catalogue.ALL[name].grids["paper"].runs())) == runs


def test_the_papers_frames_and_actors():
    frames = {
        name: {config_of(grid, run).run.total_frames for run in grid.runs()}
        for name, experiment in catalogue.ALL.items()
        if (grid := experiment.grids.get("paper"))
    }
    billion = {1_000_000_000}
    levels = ("table_2", "figure_4", "figure_e1", "figure_e2", "figure_e3", "section_5_2_2")
    assert [frames.pop(name) for name in levels] == [billion] * 6
    assert frames == {"figure_5": {9_990_000_000, 333_000_000}, "table_4": {200_000_000}}
    actors = {
        name: collections.Counter(config_of(grid, run).launch.num_actors for run in grid.runs())
        for name in ("table_2", "figure_4", "figure_e1", "figure_5")
        if (grid := catalogue.ALL[name].grids.get("paper"))
    }
    assert set(actors["table_2"]) == {200} and set(actors["figure_e1"]) == {32}
    assert actors["figure_4"] == {200: 2 * 120, 32: 2 * 120}
    assert actors["figure_5"] == {150: (1 + 30) * 24, 210: 2 * 24}
    assert [(len(each), len({task.name for task in each})) for each in (paper.DMLAB30, paper.ATARI57)] == [
        *((30, 30), (57, 57)),
    ]


def test_the_corrections_and_lags_of_figure_e1():
    machine, at_scale = (corrections.FIGURE_E1.grids[scale] for scale in SCALES)
    lags = collections.Counter(config_of(at_scale, run).data.policy_lag for run in at_scale.runs())
    assert lags == {lag: 15 for lag in (0, 1, 10, 100, 500)}
    kinds = collections.Counter(config_of(at_scale, run).loss.correction for run in at_scale.runs())
    assert kinds == {kind: 25 for kind in ("v_trace", "epsilon", "none")}
    # On one machine, there is a single agent without lag, since all corrections are the same then.
    own = collections.Counter(config_of(machine, run).data.policy_lag for run in machine.runs())
    assert own == {0: 20, 10: 80, 100: 80}
    assert [agent.group for agent in machine.agents] == ["lag 0", *["lag 10"] * 4, *["lag 100"] * 4]


def test_replay_takes_half_of_each_batch_where_the_agent_has_it():
    for experiment in (corrections.TABLE_2, corrections.FIGURE_E2, corrections.FIGURE_E3, corrections.SECTION_5_2_2):
        for grid in experiment.grids.values():
            for run in grid.runs():
                expected = 0.5 if run.agent.group == "with replay" else 0.0
                assert config_of(grid, run).data.replay_fraction == expected


def test_on_one_machine_a_run_is_the_same_wherever_it_is_trained():
    """Learner and actor in turns, an exact lag, one thread; architectures and Atari are the exceptions."""
    others = ("figure_4", "figure_5", "table_4")
    grids = [grid for each, scale, grid in GRIDS if scale == "machine" and each.name not in others]
    for grid in grids:
        for run in grid.runs():
            config = config_of(grid, run)
            assert (config.launch.num_actors, config.launch.learner_threads) == (0, 1)
            assert config.data.policy_lag >= 0 and grid.cores == 1


# Names


def test_the_nearest_name_is_suggested():
    assert catalogue.find("table_2").title.startswith("Table 2")
    with pytest.raises(
        UserError, match=r"There is no experiment 'tabel_2'\. Did you mean table_2\? There are: table_2"
    ):
        catalogue.find("tabel_2")
    with pytest.raises(UserError, match=r"'zzz'\. There are: table_2, figure_e1,"):
        catalogue.find("zzz")


def test_an_experiment_without_runs_says_what_makes_it():
    for experiment in catalogue.ALL.values():
        assert set(experiment.grids) == set(SCALES) or experiment.otherwise, experiment.name

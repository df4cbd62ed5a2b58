"""How a population's members evolve: folders, settings, history, and what a driver that was killed left undone."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re

import pytest

from impala_tf import config as config_lib
from impala_tf.errors import UserError
from impala_tf.experiments.population import population as population_lib
from impala_tf.experiments.population import table
from impala_tf.experiments.population.population import Evolution, Population
from impala_tf.experiments.population.rule import Rule
from impala_tf.files import write_json
from impala_tf.records.logdir import LogDir

CONFIG = config_lib.from_values({"env": "catch", "total_frames": 1000, "seed": 5})
RATES = (0.001, 0.1)
ALWAYS_UP_OR_DOWN = Rule(margin=0.1, probability=1.0, factor=2.0, burn_in_frames=0)


def make(folder, rule=ALWAYS_UP_OR_DOWN, config=CONFIG):
    return Population(folder, config, ("catch",), [{"learning_rate": rate} for rate in RATES], rule, 10, 5)


def trained(population, number, frames, mean, episodes=10):
    """Lays down what a member's run would have, and returns the evaluation; no training in between."""
    member = population.member(number)
    logdir = LogDir(str(population.folder / "members" / f"{number:02}" / "run"))
    checkpoint = logdir.checkpoints / f"{frames:012}"
    before = member._counts()["catch"]
    checkpoint.mkdir(parents=True)
    state = {"episodes": before[0] + episodes, "return_sum": before[1] + episodes * mean}
    write_json(checkpoint / "state.json", state)
    (checkpoint / "variables.index").write_text(f"weights of {number} at {frames}")
    logdir.progress.write_text(f"frames\n{frames}\n")
    if not logdir.config.exists():
        write_json(logdir.config, config_lib.to_values(member._config))
    member._state["frames_trained"] = frames
    return member._evaluated(mean, episodes)


def weights(population, number):
    folder = population.folder / "members" / f"{number:02}" / "run"
    newest = max((folder / "checkpoints").iterdir())
    return (newest / "variables.index").read_text()


def settings(population, number):
    return json.loads((population.folder / "members" / f"{number:02}" / "run" / "config.json").read_text())


@pytest.fixture
def population(tmp_path):
    made = make(tmp_path)
    made.prepare()
    return made


def test_a_copy_takes_weights_and_values_and_keeps_the_own_seed_and_the_ancestors_history(population):
    evolution = Evolution(population)
    evolution.evaluated(trained(population, 0, 300, 0.9))  # Nobody to copy; perturbed.
    own = population.member(0).values["learning_rate"]
    assert own in (0.002, 0.0005)
    evolution.evaluated(trained(population, 0, 400, 0.9))
    row = evolution.evaluated(trained(population, 1, 200, -0.5))
    assert row.copied == (0, 2) and row.frames == 200 and row.values == {"learning_rate": 0.1}

    assert weights(population, 1) == "weights of 0 at 400"
    # Those with which the copied weights were evaluated, then perturbed.
    rate = population.member(1).values["learning_rate"]
    assert rate in (own * 2, own / 2)
    after = settings(population, 1)
    assert after["learning_rate"] == rate and after["seed"] == 6 and settings(population, 0)["seed"] == 5
    assert [change["frames"] for change in after["tuned"]] == [300, 400]
    assert after["tuned"][0]["learning_rate"] == own and "from" not in after["tuned"][0]
    assert after["tuned"][1]["from"] == "member 0, evaluation 2" and after["tuned"][1]["learning_rate"] == rate
    # Its next evaluation counts the episodes since the copy; its own records are kept apart.
    assert population.member(1)._state["counts"] == {"catch": [20, 18.0]}
    folder = population.folder / "members" / "01" / "run"
    assert (folder / "earlier-1" / "progress.csv").read_text() == "frames\n200\n" and not (
        folder / "progress.csv"
    ).exists()


def test_a_member_that_copies_nobody_keeps_its_weights_and_is_perturbed(population):
    evolution = Evolution(population)
    evolution.evaluated(trained(population, 0, 300, 0.9))
    row = evolution.evaluated(trained(population, 1, 200, 0.85))  # Less than the margin.
    assert row.copied is None and set(row.factors) == {"learning_rate"}
    assert weights(population, 1) == "weights of 1 at 200"
    assert settings(population, 1)["learning_rate"] == population.member(1).values["learning_rate"] in (0.2, 0.05)
    assert (population.folder / "members" / "01" / "run" / "progress.csv").exists()


def test_nothing_changes_during_the_burn_in(tmp_path):
    population = make(tmp_path, Rule(margin=0.1, probability=1.0, burn_in_frames=250))
    population.prepare()
    evolution = Evolution(population)
    evolution.evaluated(trained(population, 0, 300, 0.9))
    row = evolution.evaluated(trained(population, 1, 249, -0.5))
    assert row.copied is None and not row.factors
    assert weights(population, 1) == "weights of 1 at 249" and population.member(1).values == {"learning_rate": 0.1}


def test_members_that_have_reached_their_frames_neither_evolve_nor_are_copied(population):
    evolution = Evolution(population)
    row = evolution.evaluated(trained(population, 0, 1000, 0.9))
    assert row.copied is None and not row.factors
    assert evolution.evaluated(trained(population, 1, 200, -0.5)).copied is None
    assert Evolution(population).evaluated(trained(population, 1, 300, -0.5)).copied is None


def test_a_decision_that_was_recorded_but_not_carried_out_is(population, monkeypatch):
    evolution = Evolution(population)
    evolution.evaluated(trained(population, 0, 300, 0.9))
    made = trained(population, 1, 200, -0.5)
    monkeypatch.setattr(Evolution, "_apply", lambda *_: None)  # Killed right after the row was written.
    evolution.evaluated(made)
    monkeypatch.undo()
    assert weights(population, 1) == "weights of 1 at 200" and population.member(1).train(lambda: False) == made

    again = Evolution(population)
    assert weights(population, 1) == "weights of 0 at 300" and population.member(1).evaluations == 1
    assert len(again.record.rows) == 2 and again.record.rows == Evolution(population).record.rows
    again.evaluated(made)  # A result that was on its way: nothing happens twice.
    assert len(again.record.rows) == 2 and len(settings(population, 1)["tuned"]) == 1


def test_only_the_last_checkpoints_are_kept(population):
    evolution = Evolution(population)
    for number in range(1, 5):
        evolution.evaluated(trained(population, 0, 100 * number, 0.5))
    kept = sorted(path.name for path in (population.folder / "members" / "00" / "evaluated").iterdir())
    assert kept == ["000003", "000004"]


def test_ray_is_imported_where_it_is_used_only():
    folder = pathlib.Path(population_lib.__file__).parents[1]
    using = [
        file.name for file in folder.rglob("*.py") if re.search(r"^\s*(import|from) ray\b", file.read_text(), re.M)
    ]
    assert using == ["on_ray.py"]


def failure(population, number):
    return population.member(number)._evaluated(-float("inf"), 0, "no such file")


def test_a_member_that_cannot_train_copies_another_and_all_that_cannot_are_an_error(population, tmp_path):
    evolution = Evolution(population)
    evolution.evaluated(trained(population, 0, 300, -0.9))
    assert evolution.evaluated(failure(population, 1)).copied == (0, 1)
    assert weights(population, 1) == "weights of 0 at 300"

    others = make(tmp_path / "others")
    others.prepare()
    evolution = Evolution(others)
    evolution.evaluated(failure(others, 0))
    with pytest.raises(UserError, match="No member of the population can train: no such file"):
        evolution.evaluated(failure(others, 1))


def test_a_population_goes_on_with_the_same_settings_only(population, tmp_path):
    make(tmp_path).prepare()
    longer = config_lib.from_values({**config_lib.to_values(CONFIG), "total_frames": 2000})
    make(tmp_path, config=longer).prepare()
    with pytest.raises(
        UserError, match=r"--copy_margin: 0.1 there, 0.05 now; --perturb_probability: 1.0 there, 0.33 n"
    ):
        make(tmp_path, Rule()).prepare()
    other = config_lib.from_values({**config_lib.to_values(CONFIG), "batch_size": 8})
    with pytest.raises(UserError, match=r"other settings: --batch_size: 32 there, 8 now. Give"):
        make(tmp_path, config=other).prepare()
    with pytest.raises(UserError, match=r"first values of member 1: learning_rate=0.1 there, learning_rate=0.2 now"):
        dataclasses.replace(population, initial=[{"learning_rate": rate} for rate in (0.001, 0.2)]).prepare()
    with pytest.raises(UserError, match="--members: 2 there, 1 now"):
        dataclasses.replace(population, initial=population.initial[:1]).prepare()


def test_a_sweeps_folder_is_refused(tmp_path):
    (tmp_path / "sweep.csv").write_text("")
    with pytest.raises(UserError, match="holds a sweep"):
        make(tmp_path).prepare()


def test_progress_counts_what_runs_log_between_evaluations(population, caplog):
    caplog.set_level("INFO")
    evolution = Evolution(population)
    evolution.say(0.0, 2)
    assert "0 frames in total; slowest member 0%; 0 evaluations; 0 copies; 2 of 2 training" in caplog.text
    evolution.evaluated(trained(population, 0, 300, 0.9))
    evolution.evaluated(trained(population, 1, 200, -0.5))  # Goes on from member 0's 300 frames.
    log = LogDir(str(population.folder / "members" / "01" / "run")).progress
    assert not log.exists()  # The copy has moved it.
    log.write_text("frames\n450\n")
    evolution.say(0.0, 2)  # 300 of member 0; 200 and 150 of member 1.
    assert "650 frames in total; slowest member 30%; 2 evaluations; 1 copy; best fitness 0.900" in caplog.text


def test_the_table_has_members_without_an_evaluation(population):
    evolution = Evolution(population)
    evolution.evaluated(trained(population, 0, 300, 0.9))
    lines = table.text(population, evolution.record).splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["0", "1"], ["1", "0"]] and "0.1" in lines[2]


def test_the_learning_rate_is_not_annealed_unless_asked_for(population, tmp_path):
    assert population.member(0)._config.optimizer.annealing_frames == 10**18
    annealed = config_lib.from_values({**config_lib.to_values(CONFIG), "annealing_frames": 5000})
    assert make(tmp_path / "b", config=annealed).member(0)._config.optimizer.annealing_frames == 5000

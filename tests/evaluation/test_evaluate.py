"""The settings of an evaluation and its results; tests/run/test_evaluate.py tests the command."""

import json
import pathlib
import types

import numpy as np
import pytest

from impala_tf import suites
from impala_tf.environments import dmlab, instructions
from impala_tf.errors import UserError
from impala_tf.evaluation import result
from impala_tf.evaluation.episodes import Episode
from impala_tf.evaluation.evaluate import Evaluation
from impala_tf.evaluation.record import Record
from impala_tf.export.saved_model import METADATA, check, describe
from impala_tf.structures import ArraySpec, EnvironmentSpec

TRAINED_WITH = {"full_action_set": True, "sticky_actions": 0.25, "max_frames_per_episode": 5000}

SPEC = EnvironmentSpec(ArraySpec((5,), np.dtype(np.float32)), 4, 1, action_names=("a", "b", "c", "d"))
METADATA_OF_ONE = {
    "tasks": ["atari/pong", "atari/breakout"],
    "observation": describe(SPEC.observation),
    "num_actions": 4,
    "action_names": ["a", "b", "c", "d"],
}


@pytest.fixture
def model(tmp_path):
    """The parts of a SavedModel that are read before it is loaded."""
    settings = {"env": "atari/pong,atari/breakout"}
    metadata = {**METADATA_OF_ONE, "environment_options": TRAINED_WITH, "settings": settings}
    (tmp_path / "model" / METADATA).parent.mkdir(parents=True)
    (tmp_path / "model" / METADATA).write_text(json.dumps(metadata))
    (tmp_path / "model" / "saved_model.pb").write_text("")
    return str(tmp_path / "model")


def test_by_default_all_tasks_of_the_training(model):
    pong, breakout = Evaluation(model, "r.json").protocols()
    assert (pong.env_id, breakout.env_id) == ("atari/pong", "atari/breakout")
    assert pong.episodes == 200
    assert pong.options == {**TRAINED_WITH, "max_frames_per_episode": 108_000}


def test_an_agent_trained_on_a_suite_is_evaluated_on_the_suite(model):
    path = pathlib.Path(model) / METADATA
    path.write_text(json.dumps({**json.loads(path.read_text()), "settings": {"env": "atari57"}}))
    assert len(Evaluation(model, "r.json").protocols()) == 57


def test_atari57(model):
    protocols = Evaluation(model, "r.json", env="atari57").protocols()
    assert tuple(task.env_id for task in protocols) == suites.env_ids("atari57")
    assert {task.episodes for task in protocols} == {200}


def test_dmlab30_is_evaluated_on_its_test_levels(model, tmp_path, monkeypatch):
    installed = types.SimpleNamespace(runfiles_path=lambda: str(tmp_path))
    monkeypatch.setattr(dmlab, "_module", lambda: installed)  # Pretend that it is installed.
    options = {"dmlab_dataset_path": str(tmp_path)}
    protocols = Evaluation(model, "r.json", env="dmlab30", options=options).protocols()
    assert tuple(task.env_id for task in protocols) == suites.env_ids("dmlab30", test=True)
    assert "dmlab/rooms_collect_good_objects_test" in {task.env_id for task in protocols}
    assert {task.episodes for task in protocols} == {500}
    assert all(task.options == {"dmlab_test": True} for task in protocols)


def test_another_number_of_episodes(model):
    assert {task.episodes for task in Evaluation(model, "r.json", env="catch,memory", episodes=7).protocols()} == {7}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"env": "atari57,atari/pong"}, "more than once"),
        ({"env": "atari/pong,atari/pang"}, "did you mean atari/pong"),
        ({"video": "film.gif"}, "ends in .mp4"),
    ],
)
def test_refuses(model, settings, message):
    with pytest.raises(UserError, match=message):
        Evaluation(model, "r.json", **settings).protocols()


def test_the_results_of_a_suite(model, tmp_path):
    """Episodes do not finish in the order of their numbers."""
    protocols = Evaluation(model, "r.json", env="atari57", episodes=3).protocols()
    random = np.random.default_rng(0)
    returns = {task.env_id: random.normal(1000, 500, size=3) for task in protocols}
    with Record(tmp_path / "r.json", {}) as record:
        for task in protocols:
            for number in (2, 0, 1):
                record.add(task.env_id, Episode(number, number, returns[task.env_id][number], 10 + number))
        found = result.results("atari57", protocols, record, False)
    assert tuple(found["tasks"]) == suites.env_ids("atari57")
    for name, task in found["tasks"].items():
        assert [episode["return"] for episode in task["episodes"]] == list(returns[name])
        assert task["mean_length"] == 11
    means = {name: float(values.mean()) for name, values in returns.items()}
    assert found["suite"]["human_normalised_median"] == suites.median_human_normalised("atari57", means)
    assert "suite" not in result.results("atari/pong", protocols[:1], record, False)
    assert "suite" not in result.results("atari57", protocols[1:], record, False)  # A score of 56 games is none.


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            SPEC._replace(num_actions=5, action_names=()),
            r"its actions are 4 \(a, b, c, d\), those of the environment 5\.",
        ),
        (
            SPEC._replace(action_names=("d", "c", "b", "a")),
            "its actions are a, b, c, d, those of the environment d, c, b, a",
        ),
        (SPEC._replace(observation=ArraySpec((6,), np.dtype(np.float32))), r"its observations are float32 \[5\]"),
        (
            SPEC._replace(observation={"image": ArraySpec((9,), np.dtype(np.uint8)), "instruction": instructions.SPEC}),
            r"those of the environment image uint8 \[9\], instruction int32 \[64\]",
        ),
    ],
)
def test_a_model_for_another_environment(other, message):
    path = pathlib.Path("models/pong")
    check(path, METADATA_OF_ONE, "another", SPEC)
    check(path, METADATA_OF_ONE, "another", SPEC._replace(action_names=()))
    check(path, METADATA_OF_ONE, "atari/pong", SPEC._replace(action_names=("d", "c", "b", "a")))
    with pytest.raises(UserError, match=message):
        check(path, METADATA_OF_ONE, "another", other)

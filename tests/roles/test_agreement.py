"""What a learner tells its actors, and which actors it refuses."""

from __future__ import annotations

import json

import pytest

from impala_tf import config as config_lib
from impala_tf import topology
from impala_tf.environments import task_set
from impala_tf.errors import UserError
from impala_tf.roles import agreement

ADDRESS = "somewhere:1234"


def _resolve(values):
    config = config_lib.from_values(values)
    return config, task_set.resolve(config.environment)


def _told(values):
    """What arrives at an actor."""
    config, tasks = _resolve(values)
    resolved = topology.resolve(config, len(tasks.names), topology.alone("localhost:1"))
    return json.loads(json.dumps(agreement.told(config, tasks, resolved)))


def _check(learner, actor):
    agreement.check(_told(learner), *_resolve(actor), ADDRESS)


def test_what_is_told():
    told = _told({"env": "catch,counting", "num_actors": 3, "core": "lstm", "unroll_length": 7, "torso": "mlp"})
    assert told["tasks"] == ["catch", "counting"]
    assert told["topology"] == {"num_actors": 3, "envs_per_actor": 16}
    assert told["settings"] == {
        "full_action_set": False,
        "sticky_actions": 0.0,
        "fire_on_reset": False,
        "life_loss_ends_episode": True,
        "max_frames_per_episode": 108_000,
        "torso": "mlp",
        "core": "lstm",
        "unroll_length": 7,
        "policy_lag": -1,
        "architecture": "impala",
    }


def test_in_a3c_what_shapes_the_gradient_is_told_too():
    impala, a3c = (_told({"env": "catch", "architecture": name})["settings"] for name in ("impala", "a3c"))
    loss = config_lib.LossConfig()
    assert impala.keys() < a3c.keys()
    assert {name: a3c[name] for name in a3c.keys() - impala.keys()} == {
        "precision": "float32",
        **{name: getattr(loss, name) for name in vars(loss)},
    }


@pytest.mark.parametrize(("name", "ours"), [("discount", 0.9), ("entropy_cost", 0.1), ("precision", "bfloat16")])
def test_a_worker_of_a3c_with_another_loss_is_refused(name, ours):
    learner = {"env": "catch", "architecture": "a3c"}
    with pytest.raises(UserError, match=rf"--{name}: .* at the learner, {ours} here. Start"):
        _check(learner, {**learner, name: ours})
    _check(learner, {**learner, "learning_rate": 0.1, "actor_threads": 2, "envs_per_actor": 3})


@pytest.mark.parametrize(("theirs", "ours"), [("impala", "a3c"), ("a3c", "impala")])
def test_another_architecture_is_the_only_difference_that_matters(theirs, ours):
    with pytest.raises(UserError) as error:
        _check({"env": "catch", "architecture": theirs}, {"env": "memory", "architecture": ours})
    assert f": --architecture: {theirs} at the learner, {ours} here. Start it" in str(error.value)


DIFFERENT = [
    ("env", "catch", "memory"),
    ("env", "catch,counting", "counting,catch"),  # Another order: task ids would be exchanged.
    ("env", "catch,counting", "catch"),
    ("sticky_actions", 0.0, 0.25),
    ("life_loss_ends_episode", True, False),
    ("max_frames_per_episode", 108_000, 18_000),
    ("torso", "auto", "mlp"),
    ("core", "none", "lstm"),
    ("unroll_length", 20, 100),
]


@pytest.mark.parametrize(("name", "theirs", "ours"), DIFFERENT)
def test_an_actor_that_differs_is_refused(name, theirs, ours):
    learner, actor = {"env": "catch", name: theirs}, {"env": "catch", name: ours}
    with pytest.raises(UserError) as error:
        _check(learner, actor)
    assert str(error.value) == (
        f"This actor does not fit the learner at {ADDRESS}: --{name}: {theirs} at the learner, {ours} here. Start it "
        "with the learner's settings."
    )
    _check(learner, learner)
    _check(actor, actor)


def test_every_difference_is_named():
    learner = {"env": "catch", "torso": "mlp", "sticky_actions": 0.25}
    actor = {"env": "memory", "core": "lstm", "unroll_length": 5}
    with pytest.raises(UserError) as error:
        _check(learner, actor)
    for part in (
        "--env: catch at the learner, memory here",
        "--sticky_actions: 0.25 at the learner, 0.0 here",
        "--torso: mlp at the learner, auto here",
        "--core: none at the learner, lstm here",
        "--unroll_length: 20 at the learner, 5 here",
    ):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "actor",
    [
        {"precision": "bfloat16"},
        {"actor_threads": 4, "learner_threads": 3, "env_threads": 2},
        {"num_actors": 9, "envs_per_actor": 3, "role": "actor", "actor_id": 8},
        {"lstm_kernel": "packed", "xla": "off", "learning_rate": 0.1, "batch_size": 7, "seed": 5},
        {"env_processes": "on", "env_deadline": 5.0, "dmlab_level_cache": "/maps"},
        {"logdir": "elsewhere", "log_interval": 1.0, "connect_timeout": 3.0, "queue_size": 100},
    ],
)
def test_what_an_actor_may_have_for_itself(actor):
    _check({"env": "catch"}, {"env": "catch", **actor})


def test_a_learner_that_does_not_tell_a_setting_is_of_another_version():
    told = _told({"env": "catch"})
    del told["settings"]["core"]
    with pytest.raises(UserError, match="--core: None at the learner, none here"):
        agreement.check(told, *_resolve({"env": "catch"}), ADDRESS)

"""Architectures as plain values: nothing is started here."""

from __future__ import annotations

import pathlib
import pickle
import subprocess
import sys

import pytest

from impala_tf import config as config_lib
from impala_tf import topology
from impala_tf.architectures import a3c, batched_a2c, gated, impala, table
from impala_tf.architectures.program import Node, Program
from impala_tf.environments import task_set

ROOT = pathlib.Path(__file__).parents[2]
ALL = (
    impala.actor_inference,
    impala.central_inference,
    batched_a2c.sync_step,
    batched_a2c.sync_trajectory,
    a3c.program,
)


def _build(architecture, spans=None, /, **values) -> Program:
    flags = {"env": "catch", "num_actors": 3, "envs_per_actor": 2, "batch_size": 6, **values}
    config = config_lib.from_values(flags)
    tasks = task_set.resolve(config.environment)
    resolved = topology.resolve(config, len(tasks.names), topology.alone("localhost:1"))
    return architecture(config, tasks, resolved, spans)


@pytest.mark.parametrize("num_actors", [1, 3, 13])
@pytest.mark.parametrize("architecture", ALL)
def test_there_is_a_learner_and_as_many_actors_as_the_topology_says(architecture, num_actors, tmp_path):
    values = {"num_actors": num_actors, "batch_size": 2 * num_actors, "logdir": str(tmp_path)}
    program = _build(architecture, **values)
    assert [learner.name for learner in program.learners] == ["learner"]
    assert [actor.name for actor in program.actors] == [f"actor {i}" for i in range(num_actors)]
    assert all(actor.restarts for actor in program.actors)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("inference", "architecture"), [("actor", impala.actor_inference), ("central", impala.central_inference)]
)
def test_the_settings_choose_where_the_policy_runs(inference, architecture):
    chosen, expected = _build(impala.program, inference=inference), _build(architecture, inference=inference)
    assert chosen.learners[0].work.func is expected.learners[0].work.func
    assert [actor.work.func for actor in chosen.actors] == [actor.work.func for actor in expected.actors]


def test_the_two_differ():
    assert (
        _build(impala.actor_inference).learners[0].work.func
        is not _build(impala.central_inference).learners[0].work.func
    )


@pytest.mark.parametrize(
    ("values", "architecture"),
    [
        ({"policy_lag": 3}, gated.program),
        ({"architecture": "batched_a2c_sync_trajectory"}, gated.program),
        ({"architecture": "batched_a2c_sync_step"}, batched_a2c.sync_step),
    ],
)
def test_the_settings_choose_who_waits_for_whom(values, architecture):
    chosen, expected = _build(table.program, **values), _build(architecture)
    assert chosen.learners[0].work.func is expected.learners[0].work.func
    assert len(chosen.learners[0].work.args) == len(expected.learners[0].work.args)
    assert [bool(actor.work.args[4]) for actor in chosen.actors] == [bool(a.work.args[4]) for a in expected.actors]


def test_with_dynamic_batches_a2cs_environments_have_no_policy():
    chosen = _build(table.program, architecture="batched_a2c_sync_trajectory", inference="central")
    assert [a.work.func for a in chosen.actors] == [a.work.func for a in _build(batched_a2c.sync_step).actors]
    assert chosen.learners[0].work.func is not _build(batched_a2c.sync_step).learners[0].work.func


def test_programs_can_be_pickled():
    """What has pipes and semaphores can be pickled only for a process that is being started: see tests/launch."""
    program = _build(impala.actor_inference)
    again = pickle.loads(pickle.dumps(program))
    assert [node.name for node in again.actors] == [node.name for node in program.actors]
    for node, copy in zip((*program.learners, *program.actors), (*again.learners, *again.actors)):
        assert (copy.name, copy.restarts, copy.work.func, copy.work.args) == (
            node.name,
            node.restarts,
            node.work.func,
            node.work.args,
        )


def test_nodes_are_values():
    node = Node("a", len)
    assert node == Node("a", len, restarts=True) != Node("a", len, restarts=False)


def test_seeds_of_environment_processes_go_with_the_frames_of_the_run(tmp_path):
    """A run that is resumed does not play the same games again."""

    def seeds():
        program = _build(impala.central_inference, logdir=str(tmp_path), seed=3)
        return {actor.work.args[4] for actor in program.actors}

    assert seeds() == {(3, 0)}
    (tmp_path / "checkpoints" / "000000012345").mkdir(parents=True)
    assert seeds() == {(3, 12345)}


@pytest.mark.parametrize("architecture", ALL)
def test_every_process_gets_a_file_for_its_spans(architecture, tmp_path):
    program = _build(architecture, tmp_path)
    assert [actor.work.args[-1] for actor in program.actors] == [tmp_path / f"actor {i}.csv" for i in range(3)]
    own, both = tmp_path / "learner.csv", (tmp_path / "learner.csv", tmp_path / "policy.csv")
    assert program.learners[0].work.args[-1] in (own, both)
    assert all(actor.work.args[-1] is None for actor in _build(architecture).actors)


def test_building_programs_imports_no_tensorflow():
    code = (
        "import sys\n"
        "from impala_tf import config, topology\n"
        "from impala_tf.environments import task_set\n"
        "from impala_tf.architectures import a3c, batched_a2c, impala\n"
        "from impala_tf.launch import local\n"
        "c = config.from_values(dict(env='catch', num_actors=3, envs_per_actor=2, batch_size=6))\n"
        "tasks = task_set.resolve(c.environment)\n"
        "t = topology.resolve(c, 1, topology.alone('localhost:1'))\n"
        "a2c = batched_a2c.sync_step, batched_a2c.sync_trajectory\n"
        "for make in (impala.program, impala.central_inference, *a2c, a3c.program):\n"
        "    assert len(make(c, tasks, t).actors) == 3\n"
        "print(sorted({'tensorflow', 'reverb', 'tf_agents'} & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")

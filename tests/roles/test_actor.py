"""An actor's parts that a test can hold in its hands; whole actors run in tests/launch."""

from __future__ import annotations

import types

import pytest

from impala_tf import config as config_lib
from impala_tf import topology
from impala_tf.environments import task_set
from impala_tf.environments.catch import CatchEnvironment
from impala_tf.networks.agent import make_agent
from impala_tf.roles import actor as role


def _made(learner_step=3, **values):
    """(config, tasks, topology, agent, the end of an actor without a learner)."""
    config = config_lib.from_values({"env": "catch", "num_actors": 2, "envs_per_actor": 4, **values})
    tasks = task_set.resolve(config.environment)
    resolved = topology.resolve(config, len(tasks.names), topology.alone("localhost:1"))
    writer = types.SimpleNamespace(write=lambda unroll: None)
    end = types.SimpleNamespace(learner_step=learner_step, writer=writer, refresh=lambda: learner_step)
    return config, tasks, resolved, make_agent(tasks.spec, config), end


def test_seeds_differ_between_actors_starts_and_runs():
    config = config_lib.from_values({"seed": 1})
    found = [role.seeds(config, number, step) for number in range(5) for step in (0, 1, 77)]
    found.append(role.seeds(config_lib.from_values({"seed": 2}), 0, 0))
    assert role.seeds(config, 0, 0) == found[0]
    assert len({seed for pair in found for seed in pair}) == 2 * len(found)
    assert all(0 <= environment < 2**31 and 0 <= actions < 2**32 for environment, actions in found)


def test_an_actor_acts_in_all_its_environments_and_records_spans(tmp_path):
    config, tasks, resolved, agent, end = _made()
    actor = role.make_actor(config, tasks, resolved, 1, agent, end, tmp_path / "spans.csv")
    assert actor.environment.num_envs == 4
    assert actor.run_unroll() == 4
    assert (tmp_path / "spans.csv").read_text().startswith("variables,")
    actor.environment.close()


def test_environments_that_cannot_be_reset_are_closed(monkeypatch):
    closed = []

    def fail(_self):
        raise RuntimeError("the dice are lost")

    monkeypatch.setattr(CatchEnvironment, "reset", fail)
    monkeypatch.setattr(CatchEnvironment, "close", lambda self: closed.append(self))
    config, tasks, resolved, agent, end = _made()
    closed.clear()  # One was made for the spec.
    with pytest.raises(RuntimeError, match="the dice are lost"):
        role.make_actor(config, tasks, resolved, 0, agent, end)
    assert [environment.num_envs for environment in closed] == [4]

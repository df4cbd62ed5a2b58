"""The actor by itself; what it writes is checked through a real server in tests/transport/test_data_path.py."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tree

from impala_tf import environments
from impala_tf.acting.actor import ACTIVITIES, Actor
from impala_tf.environments.catch import CatchEnvironment
from impala_tf.networks.agent import Agent
from impala_tf.processes.timings import Timings


def _unrolls(num_unrolls, seed, weights_seed=1, core="none"):
    environment = environments.make("catch", 4, seed=1)
    agent = Agent(environment.spec, core=core, seed=weights_seed)
    written = []
    actor = Actor(environment, agent, lambda u: written.append(tree.map_structure(np.copy, u)), lambda: 0, 5, seed)
    for _ in range(num_unrolls):
        actor.run_unroll()
    return written


def test_a_seed_fixes_the_unrolls():
    first, again, other = _unrolls(3, seed=2), _unrolls(3, seed=2), _unrolls(3, seed=3)
    for a, b in zip(first, again):
        tree.map_structure(np.testing.assert_array_equal, a, b)
    assert any((a.action != c.action).any() for a, c in zip(first, other))


def test_actions_are_drawn_from_the_behaviour_policy():
    """Over many steps the frequency of an action is its mean probability, within four standard errors."""
    unrolls = _unrolls(150, seed=5)
    probability = tf.nn.softmax(np.concatenate([u.behaviour_logits[1:] for u in unrolls])).numpy()
    action = np.concatenate([u.action[1:] for u in unrolls])
    assert len(action) == 150 * 4 * 5
    for a in range(3):
        variance = (probability[:, a] * (1 - probability[:, a])).sum()
        assert abs((action == a).sum() - probability[:, a].sum()) < 4 * np.sqrt(variance)


def test_parameters_are_refreshed_once_per_unroll_before_the_first_step():
    environment = environments.make("catch", 2, seed=1)
    agent = Agent(environment.spec, seed=1)
    written, steps = [], iter(range(100))

    def refresh():
        step = next(steps)
        for variable in agent.trainable_variables:
            variable.assign(tf.zeros_like(variable) + 0.01 * step)
        return step

    actor = Actor(environment, agent, lambda u: written.append(tree.map_structure(np.copy, u)), refresh, 5, seed=1)
    for _ in range(3):
        actor.run_unroll()
    assert next(steps) == 3
    # With all parameters equal, the logits of an unroll are all equal too, and 0 in the first.
    assert (written[0].behaviour_logits[1:] == 0).all()
    assert (written[2].behaviour_logits[1:] > 0).all()
    assert (written[2].learner_step[1:] == 1).all()


def test_the_time_is_accounted_for():
    environment = environments.make("catch", 2, seed=1)
    actor = Actor(environment, Agent(environment.spec), lambda _: None, lambda: 0, 5, seed=1)
    assert actor.run_unroll() == 2
    spent = actor.timings.spent
    assert set(spent.seconds) == {"variables", "inference", "environment", "writer", "queue"}
    assert all((seconds > 0) == (activity != "queue") for activity, seconds in spent.seconds.items())
    assert sum(spent.seconds.values()) <= spent.elapsed


def test_spans_are_recorded_in_order(tmp_path):
    environment = environments.make("catch", 2, seed=1)
    timings = Timings(ACTIVITIES, tmp_path / "spans.csv")
    actor = Actor(environment, Agent(environment.spec), lambda _: None, lambda: 0, 3, seed=1, timings=timings)
    actor.run_unroll()
    rows = [line.split(",") for line in (tmp_path / "spans.csv").read_text().splitlines()]
    assert [row[0] for row in rows] == ["variables", *["inference", "environment", "writer"] * 3, "writer"]
    times = np.array([row[1:] for row in rows], float)
    assert (times[:, 0] <= times[:, 1]).all() and (times[1:, 0] == times[:-1, 1]).all()


class _Failing(CatchEnvironment):
    """Catch, whose second instance fails at the third step."""

    def step(self, actions):
        self.steps = getattr(self, "steps", 0) + 1
        output = super().step(actions)
        if self.steps == 3:
            output.truncated[1], output.episode_length[1] = True, -1
        return output


def test_an_unroll_in_which_an_environment_failed_is_dropped():
    environment, written = _Failing(3, seed=1), []
    write = lambda u: written.append(tree.map_structure(np.copy, u))  # noqa: E731
    tasks = np.array([4, 5, 6], np.int32)
    actor = Actor(environment, Agent(environment.spec), write, lambda: 0, 5, seed=1, task_ids=tasks)
    assert [actor.run_unroll() for _ in range(3)] == [2, 3, 3]
    assert [int(u.task_id) for u in written] == [4, 6, 4, 5, 6, 4, 5, 6]
    assert all((u.episode_length[1:] >= 0).all() for u in written)


def test_no_more_unrolls_are_written_than_are_asked_for():
    environment, written = _Failing(3, seed=1), []
    actor = Actor(
        environment, Agent(environment.spec), lambda u: written.append(int(u.task_id)), lambda: 0, 5, 1, [4, 5, 6]
    )
    assert [actor.run_unroll(at_most) for at_most in (3, 1, 2)] == [2, 1, 2]
    assert written == [4, 6, 4, 4, 5]

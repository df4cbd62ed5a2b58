"""The actor by itself; what it writes is checked through a real server in tests/transport/test_data_path.py."""

import numpy as np
import tensorflow as tf
import tree

from impala_tf import environments
from impala_tf.acting.actor import Actor
from impala_tf.networks.agent import Agent


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
    actor.run_unroll()
    assert set(actor.seconds) == {"variables", "inference", "environment", "writer"}
    assert all(seconds > 0 for seconds in actor.seconds.values())

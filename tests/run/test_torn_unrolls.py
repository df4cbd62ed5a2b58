"""Actors that are killed at random moments: what arrives at the learner is whole."""

from __future__ import annotations

import math
import random
import time

import numpy as np
import pytest
import tree

from impala_tf.environments.counting import check_unroll
from impala_tf.launch import local  # noqa: F401 - has the fork server import TensorFlow, once for all.
from impala_tf.processes import parent
from impala_tf.processes.child import FORK_SERVER, Child
from impala_tf.transport import ports

UNROLL_LENGTH = 5
ENVIRONMENTS = 3
DATA = {"batch_size": 16, "replay_fraction": 0.5, "replay_size": 50}


class CountingLearner:
    """The learner's end of the transport; checks every unroll and trains nothing."""

    def __init__(self):
        from impala_tf import config as config_lib
        from impala_tf import topology
        from impala_tf.environments import task_set
        from impala_tf.networks.agent import make_agent
        from impala_tf.roles import agreement
        from impala_tf.transport import signatures
        from impala_tf.transport.learner_end import LearnerEnd

        config = config_lib.from_values({"env": "counting", "unroll_length": UNROLL_LENGTH, **DATA})
        tasks = task_set.resolve(config.environment)
        agent = make_agent(tasks.spec, config)
        port = ports.free_port()
        told = agreement.told(config, tasks, topology.resolve(config, 1, topology.alone(f"localhost:{port}")))
        unroll = signatures.unroll_signature(tasks.spec, agent.core_state_spec, UNROLL_LENGTH)
        self._end = LearnerEnd(config.data, unroll, agent.trainable_variables, port=port, told=told)
        self.address = self._end.address
        self._end.publish(0)
        self._last = {}
        self._seen, self._replayed = {}, []
        self.unrolls, self.batches = 0, 0

    @property
    def instances(self):
        """Number of environments that unrolls have come from."""
        return len(self._last)

    def take(self, timeout):
        """Checks the unrolls of the next batch; False if there is none in time."""
        batch = self._end.next_batch(timeout)
        if batch is None:
            return False
        self.batches += 1
        self._end.publish(self.batches)
        steps = tree.map_structure(lambda x: x.numpy(), batch.unrolls._replace(core_state=(), task_id=()))
        for i, fresh in enumerate(batch.fresh.numpy()):
            unroll = tree.map_structure(lambda x, i=i: x[:, i], steps)
            self._seen_or_replayed(unroll, fresh)
            if fresh:
                self._check(unroll)
        return True

    def _seen_or_replayed(self, unroll, fresh):
        key = tuple(unroll.observation[0, :2])  # Instance and step.
        if fresh:
            assert key not in self._seen
            self._seen[key] = unroll
        else:
            self._replayed.append((key, unroll))

    def check_replayed(self):
        """Checks that what was replayed is, bit for bit, what was fresh once, before or after; returns its number."""
        left = set()
        for key, unroll in self._replayed:
            if key in self._seen:
                tree.map_structure(np.testing.assert_array_equal, unroll, self._seen[key])
            else:
                left.add(key)
        assert len(left) < 8, left  # Too few for another batch.
        return len(self._replayed)

    def _check(self, unroll):
        check_unroll(unroll.observation, unroll.action, unroll.reward, unroll.terminated, unroll.truncated)
        instance, counter = unroll.observation[0, :2]
        if instance in self._last:
            tree.map_structure(
                lambda before, now: np.testing.assert_array_equal(before, now[0]), self._last[instance], unroll
            )
        else:
            assert counter == 0, f"the first unroll of instance {instance} starts at step {counter}"
        assert np.isfinite(unroll.behaviour_logits).all() and (unroll.behaviour_logits[1:] != 0).any(-1).all()
        assert unroll.learner_step[-1] <= self.batches
        self._last[instance] = tree.map_structure(lambda x: x[-1].copy(), unroll)
        self.unrolls += 1

    def stop(self):
        self._end.stop()


@pytest.fixture
def learner():
    learner = CountingLearner()
    yield learner
    learner.stop()


def _act(address):
    """What an actor does that is started by hand."""
    from impala_tf import config as config_lib
    from impala_tf import topology
    from impala_tf.environments import task_set
    from impala_tf.roles import actor

    values = {"env": "counting", "unroll_length": UNROLL_LENGTH, "envs_per_actor": ENVIRONMENTS, "log_interval": 1000.0}
    config = config_lib.from_values(values)
    tasks = task_set.resolve(config.environment)

    def resolve(told):
        return topology.resolve(config, len(tasks.names), topology.alone(address), told=told)

    actor.run(config, tasks, resolve, 0, address=address, ready=lambda: parent.send(parent.Ready()))


@pytest.mark.timeout(400)
def test_no_unroll_is_torn_when_actors_are_killed(learner):
    """Kills ten actors, three of which run at a time, each within a second after its first unrolls."""
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    complaints = []

    def start_actor():
        note = lambda _level, text: complaints.append(text)  # noqa: E731
        return Child("actor", _act, learner.address, context=FORK_SERVER, on_line=note)

    actors, kill_at, killed = [start_actor() for _ in range(3)], {}, 0
    while killed < 10:
        learner.take(timeout=0.02)
        for actor in list(actors):
            actor.poll()
            assert actor.status is None and complaints == [], (actor.describe_error(), complaints)
            if actor not in kill_at and actor.ready:
                kill_at[actor] = time.monotonic() + chance.random()
            if time.monotonic() > kill_at.get(actor, math.inf):
                actor.kill()
                actors.remove(actor)
                killed += 1
                if killed + len(actors) < 10:
                    actors.append(start_actor())
    while learner.take(timeout=2):
        pass
    # Each unroll is in the queue and in the replay, or, if the actor was killed in between, in the queue alone.
    assert learner.check_replayed() == learner.unrolls
    assert learner.instances == 10 * ENVIRONMENTS
    assert learner.unrolls > 5 * learner.instances  # Most unrolls started in the middle of a game.

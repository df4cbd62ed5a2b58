"""The parts of the system, each to be measured alone but with the same settings as in the whole.

Every function prepares a part in the calling process and returns a step: a function that does some work and returns the
number of environment frames processed, so that the parts' costs per frame add up. See `measure.Bench`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tree

from impala_tf.acting.actor import Actor
from impala_tf.acting.policy import Policy
from impala_tf.benchmark.setup import Setup
from impala_tf.environments import task_set
from impala_tf.environments.base import empty_output
from impala_tf.learning.group import ALONE, Group
from impala_tf.learning.learner import Learner
from impala_tf.networks.agent import Agent, make_agent
from impala_tf.structures import Batch, Trajectory, agent_input
from impala_tf.transport import REPLAY
from impala_tf.transport.connection import wait_for_server
from impala_tf.transport.learner_end import LearnerEnd
from impala_tf.transport.signatures import trajectory_signature, unroll_signature
from impala_tf.transport.writer import UnrollWriter

Step = Callable[[], int]

_RECORDING_ENVS = 4


def environment(setup: Setup, seed: int) -> Step:
    """Steps one actor's environments with random actions."""
    batch = task_set.make_batch(setup.tasks, setup.topology.task_ids(0), seed, setup.topology.env_threads)
    rng = np.random.default_rng(seed)
    batch.reset()

    def step() -> int:
        batch.step(rng.integers(0, batch.spec.num_actions, batch.num_envs, dtype=np.int32))
        return batch.num_envs * batch.spec.frames_per_step

    return step


def inference(setup: Setup, threads: int) -> Step:
    """Runs the policy on the same observations: one actor's, or those of all actors if it is in the learner."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if not setup.policy_in_learner:
        tf.config.set_visible_devices([], "GPU")  # As in an actor.
    spec, agent = setup.tasks.spec, make_agent(setup.tasks.spec, setup.config)
    num_envs = setup.policy_batch
    entries = tree.map_structure(lambda x: x.numpy(), _random_unrolls(setup, agent, num_envs))
    first = tree.map_structure(lambda x: x[0], entries.observation)
    output = empty_output(spec, num_envs)._replace(observation=first)
    inputs, policy, state = agent_input(output, entries.action[0]), Policy(agent, seed=0), agent.initial_state(num_envs)

    def step() -> int:
        policy(inputs, state)
        return num_envs * spec.frames_per_step

    return step


def learner(setup: Setup, threads: int, group: Group = ALONE) -> Step:
    """Updates on the same batch every time, together with the other learners of a group."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    agent, data = make_agent(setup.tasks.spec, setup.config), setup.config.data
    updated = Learner(agent, setup.config, setup.tasks.spec.frames_per_step, group)
    fresh = tf.range(data.batch_size) < data.fresh_batch_size
    batch = Batch(_random_unrolls(setup, agent, data.batch_size), fresh)

    def step() -> int:
        float(updated.step(batch)["total_loss"])
        return data.fresh_batch_size * setup.frames_per_unroll

    step()  # Traces the update.
    return step


def transport(setup: Setup, address: str) -> Step:
    """Writes recorded unrolls as fast as the server accepts them; needs a `learner_host` without updates to run."""
    tf.config.set_visible_devices([], "GPU")  # As in an actor.
    unrolls, agent = recorded(setup)
    tables = wait_for_server(address, 60)
    signature = unroll_signature(setup.tasks.spec, agent.core_state_spec, setup.config.data.unroll_length)
    writer = UnrollWriter(address, signature, replay=REPLAY in tables)
    num_envs = setup.topology.envs_per_actor
    written = iter(range(10**9))

    def step() -> int:
        for _ in range(num_envs):
            writer.write(unrolls[next(written) % len(unrolls)])
        # Bounded, because nothing is read any more once the reader's measurement has ended.
        taken = writer.flush(timeout=0.2)
        return taken * num_envs * setup.frames_per_unroll

    return step


def learner_host(setup: Setup, port: int, updates: bool) -> Step:
    """Runs the learner's process: server, batches and, with `updates`, updates and publishing.

    Without updates, batches are dropped as they arrive, and the parameters are published only once.
    """
    spec, data = setup.tasks.spec, setup.config.data
    agent = make_agent(spec, setup.config)
    unroll = (spec, agent.core_state_spec, data.unroll_length)
    learner = Learner(agent, setup.config, spec.frames_per_step)
    if updates:
        learner.trace(trajectory_signature(*unroll), data.batch_size)
    end = LearnerEnd(data, unroll_signature(*unroll), agent.trainable_variables, port=port)
    end.publish(0)

    def step() -> int:
        batch = end.next_batch(timeout=0.2)
        if batch is None:
            return 0
        if updates:
            learner.step(batch)
            end.publish(int(learner.step_count))
        return data.fresh_batch_size * setup.frames_per_unroll

    return step


def recorded(setup: Setup) -> tuple[list[Trajectory], Agent]:
    """Collects some unrolls with an untrained agent; returns the unrolls and the agent."""
    unrolls: list[Trajectory] = []
    task_ids = setup.topology.task_ids(0)[:_RECORDING_ENVS]
    batch = task_set.make_batch(setup.tasks, task_ids, 1, setup.topology.env_threads)
    agent = make_agent(batch.spec, setup.config)
    keep = lambda unroll: unrolls.append(tree.map_structure(np.array, unroll))  # noqa: E731
    collector = Actor(batch, agent, keep, lambda: 0, setup.config.data.unroll_length, seed=1)
    while len(unrolls) < 12 * _RECORDING_ENVS:
        collector.run_unroll()
    batch.close()
    return unrolls, agent


def _random_unrolls(setup: Setup, agent: Agent, num_unrolls: int) -> Any:
    """Returns time-major unrolls with random pixels and actions, occasional episode ends, and zeros elsewhere."""
    rng, spec = np.random.default_rng(0), setup.tasks.spec
    signature = trajectory_signature(spec, agent.core_state_spec, setup.config.data.unroll_length)

    def fill(tensor_spec: tf.TensorSpec, batched_at: int) -> tf.Tensor:
        shape = list(tensor_spec.shape)
        shape.insert(batched_at, num_unrolls)
        dtype = tensor_spec.dtype.as_numpy_dtype
        if tensor_spec.dtype == tf.bool:
            return tf.constant(rng.random(shape) < 0.01)
        if tensor_spec.dtype == tf.uint8:
            return tf.constant(rng.integers(0, 256, shape, dtype))
        return tf.zeros(shape, tensor_spec.dtype)

    per_step = tree.map_structure(lambda s: fill(s, 1), signature._replace(core_state=(), task_id=()))
    return per_step._replace(
        action=tf.constant(rng.integers(0, spec.num_actions, per_step.action.shape, np.int32)),
        core_state=tree.map_structure(lambda s: fill(s, 0), signature.core_state),
        task_id=fill(signature.task_id, 0),
    )

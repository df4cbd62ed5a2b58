"""Each part of the system alone, as the whole uses it.

Every function prepares a part in the process that calls it and returns a step that works on it and returns the number
of environment frames that it worked on, so that the costs of the parts add up; see `measure.Bench`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tree

from impala_tf.acting.actor import Actor, Policy
from impala_tf.config import Config
from impala_tf.environments.base import empty_output
from impala_tf.learning.learner import Learner
from impala_tf.networks.agent import Agent, make_agent
from impala_tf.topology import environment_spec, envs_per_actor, make_environments, num_actors
from impala_tf.structures import EnvironmentSpec, Trajectory, agent_input
from impala_tf.transport import TRAJECTORIES, VARIABLES, server
from impala_tf.transport.connection import wait_for_server
from impala_tf.transport.dataset import BatchQueue, make_dataset
from impala_tf.transport.signatures import trajectory_signature, unroll_signature, variables_signature
from impala_tf.transport.variables import VariablePublisher
from impala_tf.transport.writer import UnrollWriter

Step = Callable[[], int]

_RECORDING_ENVS = 4


def environment(config: Config, seed: int) -> Step:
    """One actor's environments under a random policy."""
    batch = make_environments(config, seed, print)
    rng = np.random.default_rng(seed)
    batch.reset()

    def step() -> int:
        batch.step(rng.integers(0, batch.spec.num_actions, batch.num_envs, dtype=np.int32))
        return batch.num_envs * batch.spec.frames_per_step

    return step


def inference(config: Config, threads: int) -> Step:
    """The policy step of one actor, or of all environments where inference is central, on the same observations."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    spec, agent = _agent(config)
    num_envs = envs_per_actor(config) * (num_actors(config) if config.run.inference == "central" else 1)
    entries = tree.map_structure(lambda x: x.numpy(), _random_unrolls(config, spec, agent, num_envs))
    first = tree.map_structure(lambda x: x[0], entries.observation)
    output = empty_output(spec, num_envs)._replace(observation=first)
    inputs, policy, state = agent_input(output, entries.action[0]), Policy(agent, seed=0), agent.initial_state(num_envs)

    def step() -> int:
        policy(inputs, state)
        return num_envs * spec.frames_per_step

    return step


def learner(config: Config, threads: int) -> Step:
    """Updates on a batch that stays the same."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    spec, agent = _agent(config)
    updated = Learner(agent, config, spec.frames_per_step)
    batch = _random_unrolls(config, spec, agent, config.data.batch_size)

    def step() -> int:
        float(updated.step(batch)["total_loss"])
        return config.data.batch_size * config.data.unroll_length * spec.frames_per_step

    step()  # Traces it.
    return step


def transport(config: Config, port: int) -> Step:
    """A writer of recorded unrolls, as fast as they are taken; to run beside a `learner_host` without updates."""
    unrolls, spec, _ = recorded(config)
    wait_for_server(f"localhost:{port}", 60, lambda _: None)
    writer = UnrollWriter(f"localhost:{port}", spec.frame_stack)
    num_envs = envs_per_actor(config)
    written = iter(range(10**9))

    def step() -> int:
        for _ in range(num_envs):
            writer.write(unrolls[next(written) % len(unrolls)])
        # Not for ever: the reader rests when it has read for long enough.
        taken = writer.flush(timeout=0.2)
        return taken * num_envs * config.data.unroll_length * spec.frames_per_step

    return step


def learner_host(config: Config, port: int, updates: bool) -> Step:
    """The learner's process: server, batches, and, with `updates`, updates and publishing.

    Without, a batch is dropped as soon as it is there, and the parameters are published once.
    """
    spec, agent = _agent(config)
    trajectory = (spec, agent.core_state_spec, config.data.unroll_length)
    signature = unroll_signature(*trajectory)
    tables = {TRAJECTORIES: signature, VARIABLES: variables_signature(agent.trainable_variables)}
    learner = Learner(agent, config, spec.frames_per_step)
    if updates:
        learner.trace(trajectory_signature(*trajectory), config.data.batch_size)
    running = server.Server(server.load_config(config.data.reverb_config), tables, port)
    publisher = VariablePublisher(running.address, agent.trainable_variables)
    publisher.publish(0)
    queue = BatchQueue(make_dataset(running.address, signature, config.data.batch_size), config.data.prefetch)

    def step() -> int:
        assert running  # Named here to stay alive.
        batch = queue.get(timeout=0.2)
        if batch is None:
            return 0
        if updates:
            learner.step(batch)
            publisher.publish(int(learner.step_count))
        return config.data.batch_size * config.data.unroll_length * spec.frames_per_step

    return step


def recorded(config: Config) -> tuple[list[Trajectory], EnvironmentSpec, Agent]:
    """Some unrolls that a random policy collected, with the environment's spec and the policy."""
    unrolls: list[Trajectory] = []
    few = dataclasses.replace(config, run=dataclasses.replace(config.run, envs_per_actor=_RECORDING_ENVS))
    batch = make_environments(few, seed=1, warn=print)
    agent = make_agent(batch.spec, config)
    keep = lambda unroll: unrolls.append(tree.map_structure(np.array, unroll))  # noqa: E731
    collector = Actor(batch, agent, keep, lambda: 0, config.data.unroll_length, seed=1)
    while len(unrolls) < 12 * _RECORDING_ENVS:
        collector.run_unroll()
    batch.close()
    return unrolls, batch.spec, agent


def _agent(config: Config) -> tuple[EnvironmentSpec, Agent]:
    spec = environment_spec(config)
    return spec, make_agent(spec, config)


def _random_unrolls(config: Config, spec: EnvironmentSpec, agent: Agent, num_unrolls: int) -> Any:
    """A time-major batch: random pixels and actions, rewards and episode ends now and then."""
    rng = np.random.default_rng(0)
    signature = trajectory_signature(spec, agent.core_state_spec, config.data.unroll_length)

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

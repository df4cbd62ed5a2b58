"""Each part of the system alone, as the whole uses it.

Every function prepares a part in the process that calls it and returns a step that works on it and returns the number
of environment frames that it worked on, so that the costs of the parts add up; see `measure.Bench`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tree

from impala_tf import environments
from impala_tf.actor import Actor, Policy
from impala_tf.config import Config
from impala_tf.learner import Learner
from impala_tf.networks.agent import Agent, make_agent
from impala_tf.runtime.layout import envs_per_actor, num_actors
from impala_tf.structures import EnvironmentSpec, Trajectory
from impala_tf.transport import TRAJECTORIES, VARIABLES, server
from impala_tf.transport.connection import wait_for_server
from impala_tf.transport.dataset import BatchQueue, make_dataset
from impala_tf.transport.signatures import trajectory_signature, unroll_signature, variables_signature
from impala_tf.transport.writer import UnrollWriter
from impala_tf.unrolls import agent_input

Step = Callable[[], int]


def environment(config: Config, seed: int) -> Step:
    """One actor's environments under a random policy."""
    batch = environments.make(num_envs=envs_per_actor(config), seed=seed, **config.environment_options())
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
    output = environments.base.empty_output(spec, num_envs)._replace(observation=entries.observation[0])
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


def transport_in(config: Config, port: int) -> Step:
    """A writer of the unrolls that a random policy collected; to run beside `transport_out`."""
    unrolls: list[Trajectory] = []
    batch = environments.make(num_envs=envs_per_actor(config), seed=1, **config.environment_options())
    collector = Actor(
        batch,
        make_agent(batch.spec, config),
        lambda unroll: unrolls.append(tree.map_structure(np.array, unroll)),
        lambda: 0,
        config.data.unroll_length,
        seed=1,
    )
    while len(unrolls) < 4 * batch.num_envs:
        collector.run_unroll()
    wait_for_server(f"localhost:{port}", 60, lambda _: None)
    writer = UnrollWriter(f"localhost:{port}", batch.spec.frame_stack)
    written = iter(range(10**9))

    def step() -> int:
        for _ in range(batch.num_envs):
            writer.write(unrolls[next(written) % len(unrolls)])
        # Not for ever: the reader rests when it has read for long enough.
        taken = writer.flush(timeout=0.2)
        return batch.num_envs * config.data.unroll_length * batch.spec.frames_per_step if taken else 0

    return step


def transport_out(config: Config, port: int) -> Step:
    """The learner's side of the transport: server, sampling, batches."""
    spec, agent = _agent(config)
    signature = unroll_signature(spec, agent.core_state_spec, config.data.unroll_length)
    signatures = {TRAJECTORIES: signature, VARIABLES: variables_signature(agent.trainable_variables)}
    running = server.Server(server.load_config(config.data.reverb_config), signatures, port)
    queue = BatchQueue(make_dataset(running.address, signature, config.data.batch_size), config.data.prefetch)

    def step() -> int:
        assert running  # Named here to stay alive.
        taken = queue.get(timeout=0.2) is not None
        return taken * config.data.batch_size * config.data.unroll_length * spec.frames_per_step

    return step


def _agent(config: Config) -> tuple[EnvironmentSpec, Agent]:
    spec = environments.spec(**config.environment_options())
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

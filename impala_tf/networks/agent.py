"""The agent: torso, core, and heads for policy and value (IMPALA, Figure 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from impala_tf.config import Config
from impala_tf.networks import initializers, lstm
from impala_tf.networks.cores import make_core
from impala_tf.networks.instruction import InstructionEncoder
from impala_tf.networks.torsos import make_torso
from impala_tf.structures import AgentInput, AgentOutput, EnvironmentSpec


def _head(name: str, units: int, num_inputs: int, initial: tf.keras.initializers.Initializer) -> tf.keras.layers.Layer:
    # float32 in any case: log-probabilities and value targets need it.
    head = tf.keras.layers.Dense(units, name=name, kernel_initializer=initial, dtype=tf.float32)
    head(tf.zeros([1, num_inputs]))  # Creates the variables.
    return head


def _fold(encode: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor) -> tf.Tensor:
    """Applies `encode`, which maps [N, ...] to [N, F], to x [T, B, ...]."""
    encoded = encode(tf.reshape(x, tf.concat([[-1], x.shape[2:]], axis=0)))
    return tf.reshape(encoded, tf.concat([tf.shape(x)[:2], [encoded.shape[-1]]], axis=0))


class Agent(tf.Module):
    """Policy and value function in one network.

    Every variable exists once the constructor returns, its value determined by the seed, and `trainable_variables` has
    the same order in every process: learner and actors can exchange plain lists of arrays.

    `unroll` is `features` (the convolutions, frame by frame), `unroll_core` (instruction and memory) and `heads`, one
    after the other, so that a learner can compile them in different ways.
    """

    def __init__(
        self,
        spec: EnvironmentSpec,
        torso: str = "auto",
        core: str = "none",
        seed: int = 0,
        precision: str = "float32",
        lstm_kernel: str = "auto",
    ):
        """
        Args:
          spec: of the environment; its observation is an array, or {"image": an array, "instruction": words}.
          torso: one of `torsos.NAMES`.
          core: one of `cores.NAMES`.
          seed: of the initial weights.
          precision: "float32" or "bfloat16", what the torso computes in.
          lstm_kernel: one of `cores.KERNELS`; the parameters are the same.

        Raises:
          UserError: torso or core are unknown, or the torso cannot read the observations.
        """
        super().__init__()
        seeds = initializers.seeds(seed)
        self.num_actions = spec.num_actions
        observation = spec.observation
        self._reads = isinstance(observation, dict) and set(observation) == {"image", "instruction"}
        seen = observation["image"] if self._reads else observation
        self.torso = make_torso(torso, seen, spec.frame_stack, seed=next(seeds), precision=precision)
        num_features = self.torso.feature_size + (InstructionEncoder.output_size if self._reads else 0)
        self.core = make_core(core, num_features, spec.num_actions, seed=next(seeds), lstm_kernel=lstm_kernel)
        # A small policy head: the first policy is close to uniform, so that every action is tried everywhere.
        policy, value = initializers.orthogonal(next(seeds), 0.01), initializers.orthogonal(next(seeds))
        self._policy = _head("policy", spec.num_actions, self.core.output_size, policy)
        self._value = _head("value", 1, self.core.output_size, value)
        if self._reads:
            cudnn = lstm_kernel != "loop" and lstm.has_gpu()
            self.instruction = InstructionEncoder(seed=next(seeds), cudnn=cudnn)

    @property
    def core_state_spec(self) -> Any:
        """Nest of `ArraySpec`: the core state of one environment; empty for a feed-forward agent."""
        return self.core.state_spec

    def initial_state(self, batch_size) -> Any:
        """Nest of float32 [B, ...]: the core state at the start of an episode."""
        return self.core.initial_state(batch_size)

    @property
    def head_variables(self) -> list[tf.Variable]:
        """The trainable variables of `heads`: the first of `trainable_variables`."""
        return [*self._policy.trainable_variables, *self._value.trainable_variables]

    @property
    def other_variables(self) -> list[tf.Variable]:
        """The trainable variables of all but `heads`."""
        return list(self.trainable_variables[len(self.head_variables) :])

    def features(self, observation) -> tf.Tensor:
        """Torso features, float32 [T, B, F], of time-major observations [T, B, ...]; instructions are not looked at."""
        image = tf.convert_to_tensor(observation["image"] if self._reads else observation)
        return _fold(self.torso, image)

    def unroll_core(self, features, inputs: AgentInput, core_state) -> tuple[tf.Tensor, Any]:
        """The core over `features`, float32 [T, B, F], joined by what the instruction says, where there is one.

        Of `inputs.observation` only the instruction is looked at.

        Returns:
          the core's outputs, float32 [T, B, D], and its state behind the last of them.
        """
        if self._reads:
            instruction = tf.convert_to_tensor(inputs.observation["instruction"])
            features = tf.concat([features, _fold(self.instruction, instruction)], axis=-1)
        return self.core.unroll(features, inputs.last_reward, inputs.last_action, inputs.episode_start, core_state)

    def heads(self, outputs) -> AgentOutput:
        """Policy and value of the core's outputs, float32 [T, B, D]."""
        return AgentOutput(logits=self._policy(outputs), value=tf.squeeze(self._value(outputs), axis=-1))

    def unroll(self, inputs: AgentInput, core_state) -> tuple[AgentOutput, Any]:
        """The agent's answers to inputs [T, B, ...], time-major, and the core state behind the last of them."""
        outputs, core_state = self.unroll_core(self.features(inputs.observation), inputs, core_state)
        return self.heads(outputs), core_state

    def step(self, inputs: AgentInput, core_state) -> tuple[AgentOutput, Any]:
        """An unroll of one: inputs and answers [B, ...]."""
        outputs, core_state = self.unroll(tf.nest.map_structure(lambda x: tf.expand_dims(x, 0), inputs), core_state)
        return AgentOutput(*(tf.squeeze(x, axis=0) for x in outputs)), core_state


def make_agent(spec: EnvironmentSpec, config: Config) -> Agent:
    """The agent of a run in an environment of `spec`; the same weights in every process.

    Raises:
      UserError: as `Agent`.
    """
    network = config.network
    return Agent(spec, network.torso, network.core, config.run.seed, network.precision, lstm_kernel=network.lstm_kernel)

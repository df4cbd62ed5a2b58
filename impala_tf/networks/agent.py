"""The agent: a torso, a core, and a policy and a value head (IMPALA, Figure 3)."""

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
    # Always float32: log-probabilities and value targets need the precision.
    head = tf.keras.layers.Dense(units, name=name, kernel_initializer=initial, dtype=tf.float32)
    head(tf.zeros([1, num_inputs]))  # Creates the variables.
    return head


def _fold(encode: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor) -> tf.Tensor:
    """Applies `encode`, which maps [N, ...] to [N, F], to `x` [T, B, ...]; returns [T, B, F]."""
    encoded = encode(tf.reshape(x, tf.concat([[-1], x.shape[2:]], axis=0)))
    return tf.reshape(encoded, tf.concat([tf.shape(x)[:2], [encoded.shape[-1]]], axis=0))


class Agent(tf.Module):
    """A policy and a value function in one network.

    All variables exist once the constructor returns. The seed determines their values, and `trainable_variables` has
    the same order in every process, so the learner and the actors can exchange plain lists of arrays.

    `unroll` runs `features` (the torso, frame by frame), `unroll_core` (instruction encoder and core) and `heads` in
    sequence. They are separate methods so that a learner can compile each of them differently.
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
        """Builds the network and initializes its weights.

        Args:
          spec: environment spec. The observation is one array, or {"image": array, "instruction": word ids}.
          torso: one of `torsos.NAMES`, or a user's own as module:attribute.
          core: one of `cores.NAMES`.
          seed: seed for the initial weights.
          precision: dtype in which the torso computes, "float32" or "bfloat16".
          lstm_kernel: one of `cores.KERNELS`; the choice does not change the parameters.

        Raises:
          UserError: the torso or the core is unknown, or the torso cannot read the observations.
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
        # Small policy weights make the initial policy nearly uniform, so the agent tries every action at first.
        policy, value = initializers.orthogonal(next(seeds), 0.01), initializers.orthogonal(next(seeds))
        self._policy = _head("policy", spec.num_actions, self.core.output_size, policy)
        self._value = _head("value", 1, self.core.output_size, value)
        if self._reads:
            cudnn = lstm_kernel != "loop" and lstm.has_gpu()
            self.instruction = InstructionEncoder(seed=next(seeds), cudnn=cudnn)

    @property
    def core_state_spec(self) -> Any:
        """The core state of one environment, a nest of `ArraySpec`; empty for a feed-forward agent."""
        return self.core.state_spec

    def initial_state(self, batch_size) -> Any:
        """Returns the core state at the start of an episode, a nest of float32 [B, ...]."""
        return self.core.initial_state(batch_size)

    @property
    def head_variables(self) -> list[tf.Variable]:
        """The trainable variables of the heads, which come first in `trainable_variables`."""
        return [*self._policy.trainable_variables, *self._value.trainable_variables]

    @property
    def other_variables(self) -> list[tf.Variable]:
        """The trainable variables of everything except the heads."""
        return list(self.trainable_variables[len(self.head_variables) :])

    def features(self, observation) -> tf.Tensor:
        """Computes torso features, float32 [T, B, F], from observations [T, B, ...]; ignores instructions."""
        image = tf.convert_to_tensor(observation["image"] if self._reads else observation)
        return _fold(self.torso, image)

    def unroll_core(self, features, inputs: AgentInput, core_state) -> tuple[tf.Tensor, Any]:
        """Runs the core on the torso features, concatenated with the encoded instruction if there is one.

        Args:
          features: float32 [T, B, F], from `features`.
          inputs: [T, B, ...]; of `inputs.observation`, only the instruction is read.
          core_state: state before the first step.

        Returns:
          The core's outputs, float32 [T, B, D], and its state after the last step.
        """
        if self._reads:
            instruction = tf.convert_to_tensor(inputs.observation["instruction"])
            features = tf.concat([features, _fold(self.instruction, instruction)], axis=-1)
        return self.core.unroll(features, inputs.last_reward, inputs.last_action, inputs.episode_start, core_state)

    def heads(self, outputs) -> AgentOutput:
        """Computes policy logits and values from the core's outputs, float32 [T, B, D]."""
        return AgentOutput(logits=self._policy(outputs), value=tf.squeeze(self._value(outputs), axis=-1))

    def unroll(self, inputs: AgentInput, core_state) -> tuple[AgentOutput, Any]:
        """Runs the agent on time-major inputs [T, B, ...]; returns its outputs and the core state after step T."""
        outputs, core_state = self.unroll_core(self.features(inputs.observation), inputs, core_state)
        return self.heads(outputs), core_state

    def step(self, inputs: AgentInput, core_state) -> tuple[AgentOutput, Any]:
        """Runs one step: an unroll of length 1 with inputs and outputs [B, ...]."""
        outputs, core_state = self.unroll(tf.nest.map_structure(lambda x: tf.expand_dims(x, 0), inputs), core_state)
        return AgentOutput(*(tf.squeeze(x, axis=0) for x in outputs)), core_state


def make_agent(spec: EnvironmentSpec, config: Config) -> Agent:
    """Builds the agent that `config` describes; every process of a run gets the same weights.

    Raises:
      UserError: as in `Agent`.
    """
    network = config.network
    return Agent(spec, network.torso, network.core, config.run.seed, network.precision, lstm_kernel=network.lstm_kernel)

"""The agent: torso, core, and heads for policy and value (IMPALA, Figure 3)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from impala_tf.config import Config
from impala_tf.networks import initializers
from impala_tf.networks.cores import make_core
from impala_tf.networks.torsos import make_torso
from impala_tf.structures import AgentInput, AgentOutput, EnvironmentSpec


def _head(name: str, units: int, num_inputs: int, initial: tf.keras.initializers.Initializer) -> tf.keras.layers.Layer:
    # float32 in any case: log-probabilities and value targets need it.
    head = tf.keras.layers.Dense(units, name=name, kernel_initializer=initial, dtype=tf.float32)
    head(tf.zeros([1, num_inputs]))  # Creates the variables.
    return head


class Agent(tf.Module):
    """Policy and value function in one network.

    Every variable exists once the constructor returns, its value determined by the seed, and `trainable_variables` has
    the same order in every process: learner and actors can exchange plain lists of arrays.

    `unroll` is `features` (the convolutions, frame by frame) followed by `unroll_features` (memory and heads), so that
    a learner can compile the two in different ways.
    """

    def __init__(
        self,
        spec: EnvironmentSpec,
        torso: str = "auto",
        core: str = "none",
        seed: int = 0,
        precision: str = "float32",
    ):
        """
        Args:
          spec: of the environment; its observation must be a single array.
          torso: one of `torsos.NAMES`.
          core: one of `cores.NAMES`.
          seed: of the initial weights.
          precision: "float32" or "bfloat16", what the torso computes in.

        Raises:
          UserError: torso or core are unknown, or the torso cannot read the observations.
        """
        super().__init__()
        seeds = initializers.seeds(seed)
        self.num_actions = spec.num_actions
        self.torso = make_torso(torso, spec.observation, spec.frame_stack, seed=next(seeds), precision=precision)
        self.core = make_core(core, self.torso.feature_size, spec.num_actions, seed=next(seeds))
        # A small policy head: the first policy is close to uniform, so that every action is tried everywhere.
        policy, value = initializers.orthogonal(next(seeds), 0.01), initializers.orthogonal(next(seeds))
        self._policy = _head("policy", spec.num_actions, self.core.output_size, policy)
        self._value = _head("value", 1, self.core.output_size, value)

    @property
    def core_state_spec(self) -> Any:
        """Nest of `ArraySpec`: the core state of one environment; empty for a feed-forward agent."""
        return self.core.state_spec

    def initial_state(self, batch_size) -> Any:
        """Nest of float32 [B, ...]: the core state at the start of an episode."""
        return self.core.initial_state(batch_size)

    def features(self, observation) -> tf.Tensor:
        """Torso features, float32 [T, B, F], of time-major observations [T, B, ...]."""
        observation = tf.convert_to_tensor(observation)
        time_batch = tf.shape(observation)[:2]
        folded = tf.reshape(observation, tf.concat([[-1], observation.shape[2:]], axis=0))
        return tf.reshape(self.torso(folded), tf.concat([time_batch, [self.torso.feature_size]], axis=0))

    def unroll_features(self, features, inputs: AgentInput, core_state) -> tuple[AgentOutput, Any]:
        """Core and heads over `features`, float32 [T, B, F]; `inputs.observation` is not looked at."""
        outputs, core_state = self.core.unroll(
            features, inputs.last_reward, inputs.last_action, inputs.episode_start, core_state
        )
        value = tf.squeeze(self._value(outputs), axis=-1)
        return AgentOutput(logits=self._policy(outputs), value=value), core_state

    def unroll(self, inputs: AgentInput, core_state) -> tuple[AgentOutput, Any]:
        """The agent's answers to inputs [T, B, ...], time-major, and the core state behind the last of them."""
        return self.unroll_features(self.features(inputs.observation), inputs, core_state)

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
    return Agent(spec, network.torso, network.core, config.run.seed, network.precision)

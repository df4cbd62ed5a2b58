"""One learner step against arithmetic done by hand, and what it does when the numbers are bad."""

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import config as config_lib
from impala_tf.learning import losses
from impala_tf.environments import instructions
from impala_tf.learning.learner import Learner, use_xla
from impala_tf.networks.agent import Agent
from impala_tf.structures import AgentInput, ArraySpec, EnvironmentSpec, Trajectory

T, B, ACTIONS, FRAMES_PER_STEP = 3, 2, 2, 4
SPEC = EnvironmentSpec(ArraySpec((3,), np.dtype(np.float32)), ACTIONS, FRAMES_PER_STEP)
SETTINGS = {
    "unroll_length": T,
    "batch_size": B,
    "learning_rate": 0.01,
    "annealing_frames": 1000,
    "entropy_cost": 0.02,
    "max_gradient_norm": 0.5,
    "max_refused_updates": 3,
}


def _batch(seed=0, **changes):
    rng = np.random.default_rng(seed)
    batch = Trajectory(
        observation=rng.normal(size=(T + 1, B, 3)).astype(np.float32),
        reward=rng.normal(size=(T + 1, B)).astype(np.float32) * 2,  # Some beyond the clip at 1.
        terminated=np.array([[0, 0], [0, 1], [0, 0], [0, 0]], bool),
        truncated=np.zeros((T + 1, B), bool),
        episode_return=np.zeros((T + 1, B), np.float32),
        episode_length=np.zeros((T + 1, B), np.int32),
        action=rng.integers(0, ACTIONS, (T + 1, B)).astype(np.int32),
        behaviour_logits=rng.normal(size=(T + 1, B, ACTIONS)).astype(np.float32),
        learner_step=np.zeros((T + 1, B), np.int64),
        core_state=(),
        task_id=np.zeros(B, np.int32),
    )._replace(**changes)
    return tf.nest.map_structure(tf.constant, batch)


def _reading_spec_and_observation():
    """Of a vector with a text, whose words occur in several of the texts."""
    spec = SPEC._replace(observation={"image": SPEC.observation, "instruction": instructions.SPEC})
    words = np.resize(
        [instructions.encode(text) for text in ("go left", "", "left")], (T + 1, B, instructions.MAX_WORDS)
    )
    return spec, {"image": _batch().observation.numpy(), "instruction": words}


def _learner(core="none", xla="off", spec=SPEC, lstm_kernel="auto", **settings):
    agent = Agent(spec, torso="mlp", core=core, seed=1, lstm_kernel=lstm_kernel)
    return Learner(agent, config_lib.from_values({**SETTINGS, "xla": xla, **settings}), FRAMES_PER_STEP)


class _NumpyLearner:
    """Forward pass, V-trace, loss, gradient by central differences, clipping and RMSProp; all in float64."""

    def __init__(self, variables):
        self.values = [v.numpy().astype(np.float64) for v in variables]
        # Kernel and bias of the policy head, the value head and the two hidden layers, in the agent's order.
        pairs = list(zip(self.values[::2], self.values[1::2]))
        self.heads, self.hidden = pairs[:2], pairs[2:]
        self.mean_squares = [np.ones_like(v) for v in self.values]

    def forward(self, observation):
        """The mlp torso and the two heads: dense layers, ReLU after all but the heads."""
        shape = observation.shape[:2]
        x = observation.reshape(-1, 3)
        for kernel, bias in self.hidden:
            x = np.maximum(x @ kernel + bias, 0)
        (policy, policy_bias), (value, value_bias) = self.heads
        logits = (x @ policy + policy_bias).reshape(*shape, ACTIONS)
        return logits, (x @ value + value_bias).reshape(shape)

    def targets(self, batch, logits, value):
        """V-trace as a sum over the future (equation 1), for rho_bar = c_bar = 1."""
        reward = np.clip(batch.reward.numpy()[1:], -1, 1)
        discount = 0.99 * (1 - batch.terminated.numpy()[1:].astype(float))
        action = batch.action.numpy()[1:]
        pi = _log_softmax(logits[:-1])
        mu = _log_softmax(batch.behaviour_logits.numpy()[1:].astype(float))
        ratio = np.exp(_take(pi - mu, action))
        clipped = np.minimum(ratio, 1)
        v = value.copy()
        for s in range(T):
            for t in range(s, T):
                delta = clipped[t] * (reward[t] + discount[t] * value[t + 1] - value[t])
                v[s] += np.prod(discount[s:t] * clipped[s:t], axis=0) * delta
        advantage = clipped * (reward + discount * v[1:] - value[:-1])
        return v[:-1], advantage

    def loss(self, batch, targets):
        logits, value = self.forward(batch.observation.numpy().astype(float))
        v, advantage = targets
        log_pi = _log_softmax(logits[:-1])
        policy = -np.sum(advantage * _take(log_pi, batch.action.numpy()[1:]))
        baseline = 0.5 * 0.5 * np.sum((v - value[:-1]) ** 2)
        entropy = -np.sum(np.exp(log_pi) * log_pi)
        return policy + baseline - 0.02 * entropy

    def step(self, batch, learning_rate):
        logits, value = self.forward(batch.observation.numpy().astype(float))
        targets = self.targets(batch, logits, value)  # Constants: no gradient flows through them.
        loss, gradients = self.loss(batch, targets), []
        for variable in self.values:
            gradient = np.zeros_like(variable)
            for index in np.ndindex(variable.shape):
                kept = variable[index]
                sides = []
                for sign in (1, -1):
                    variable[index] = kept + sign * 1e-6
                    sides.append(self.loss(batch, targets))
                variable[index] = kept
                gradient[index] = (sides[0] - sides[1]) / 2e-6
            gradients.append(gradient)
        norm = np.sqrt(sum((g**2).sum() for g in gradients))
        scale = min(1.0, 0.5 / norm)
        for variable, mean_square, gradient in zip(self.values, self.mean_squares, gradients):
            mean_square *= 0.99
            mean_square += 0.01 * (scale * gradient) ** 2
            variable -= learning_rate * scale * gradient / np.sqrt(mean_square + 0.01)
        return loss, norm


def _log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def _take(x, action):
    return np.take_along_axis(x, action[..., None], -1)[..., 0]


def test_updates_equal_arithmetic_done_by_hand():
    """Two steps, so that slots, frames and the schedule carry over; the clip at norm 0.5 bites in both."""
    learner = _learner()
    variables = learner.agent.trainable_variables
    assert [tuple(v.shape) for v in variables] == [(64, 2), (2,), (64, 1), (1,), (3, 64), (64,), (64, 64), (64,)]
    by_hand = _NumpyLearner(variables)
    frames = T * B * FRAMES_PER_STEP
    for step in range(2):
        batch = _batch(seed=step)
        metrics = learner.step(batch)
        learning_rate = 0.01 * (1 - step * frames / 1000)
        loss, norm = by_hand.step(batch, learning_rate)
        assert norm > 0.5
        np.testing.assert_allclose(metrics["total_loss"], loss, rtol=1e-5)
        np.testing.assert_allclose(metrics["gradient_norm"], norm, rtol=1e-4)
        np.testing.assert_allclose(metrics["learning_rate"], learning_rate, rtol=1e-6)
        for ours, theirs in zip(variables, by_hand.values):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
        assert int(learner.step_count) == step + 1
        assert int(learner.frames) == (step + 1) * frames


@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize("core, lstm_kernel", [("none", "auto"), ("lstm", "loop"), ("lstm", "packed")])
def test_xla_and_lstm_kernel_change_nothing_but_the_speed(core, lstm_kernel, reads):
    spec, changes = SPEC, {}
    if reads:
        spec, observation = _reading_spec_and_observation()
        changes = {"observation": observation}
    plain, compiled = _learner(core, spec=spec), _learner(core, xla="on", spec=spec, lstm_kernel=lstm_kernel)
    state = plain.agent.initial_state(B)
    for step in range(2):
        batch = _batch(seed=step, core_state=tf.nest.map_structure(lambda x: x.numpy(), state), **changes)
        expected, got = plain.step(batch), compiled.step(batch)
        for name in expected:  # The gradient's norm among them.
            np.testing.assert_allclose(got[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=name)
    for a, b in zip(plain.agent.trainable_variables, compiled.agent.trainable_variables):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("xla", ["off", "on"])
def test_the_gradient_s_norm_with_an_embedding(xla):
    """Whose gradient is sparse, with several rows for a word that occurs in several texts."""
    spec, observation = _reading_spec_and_observation()
    learner = _learner(spec=spec, xla=xla)
    batch = _batch(observation=observation)
    inputs = AgentInput(batch.observation, batch.reward, batch.action, batch.terminated)
    with tf.GradientTape() as tape:
        loss, _ = losses.impala_loss(
            learner.agent.unroll(inputs, ())[0], batch, discount=0.99, baseline_cost=0.5, entropy_cost=0.02
        )
    gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, learner.agent.trainable_variables)]
    norm = np.sqrt(sum(np.sum(np.square(gradient)) for gradient in gradients))
    np.testing.assert_allclose(learner.step(batch)["gradient_norm"], norm, rtol=1e-5)


@pytest.mark.parametrize("xla", ["off", "on"])
@pytest.mark.parametrize("bad", ["observation", "reward", "behaviour_logits"])
def test_an_update_that_is_not_finite_is_refused_whole(bad, xla):
    learner = _learner(reward_clipping="none", xla=xla)
    learner.step(_batch())
    everything = [*learner.agent.trainable_variables, *learner.optimizer.variables]
    before = [v.numpy() for v in everything]
    poisoned = getattr(_batch(), bad).numpy()
    poisoned[1, 0] = np.nan
    for refused in (1, 2):
        learner.step(_batch(**{bad: poisoned}))
        assert int(learner.refused_in_a_row) == int(learner.refused) == refused
    for variable, value in zip(everything, before):
        np.testing.assert_array_equal(variable, value)
    learner.step(_batch(seed=3))
    assert int(learner.refused_in_a_row) == 0
    assert int(learner.refused) == 2
    assert int(learner.step_count) == 4
    assert any((v.numpy() != value).any() for v, value in zip(everything, before))


def test_tracing_ahead_fits_the_batches_that_come():
    learner = _learner("lstm")
    per_unroll = _batch(core_state=tf.nest.map_structure(lambda x: x.numpy(), learner.agent.initial_state(B)))

    def spec(x, axis):
        return tf.TensorSpec([n for i, n in enumerate(x.shape) if i != axis], x.dtype)

    signature = tf.nest.map_structure(lambda x: spec(x, 1), per_unroll._replace(core_state=(), task_id=()))
    core_state = tf.nest.map_structure(lambda x: spec(x, 0), per_unroll.core_state)
    learner.trace(signature._replace(core_state=core_state, task_id=spec(per_unroll.task_id, 0)), B)
    assert learner.step.experimental_get_tracing_count() == 1
    learner.step(per_unroll)
    assert learner.step.experimental_get_tracing_count() == 1


def test_xla_is_chosen_by_device():
    has_gpu = bool(tf.config.list_physical_devices("GPU"))
    assert use_xla("auto") == has_gpu
    assert use_xla("on")
    assert not use_xla("off")

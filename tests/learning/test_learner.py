"""The learner's updates against arithmetic by hand, refused updates, replayed unrolls, and resumed state."""

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import config as config_lib
from impala_tf.environments import instructions
from impala_tf.learning.learner import Learner, use_xla
from impala_tf.networks.agent import Agent
from impala_tf.structures import ArraySpec, Batch, EnvironmentSpec, Trajectory, map_spec, trajectory_spec

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


def _unrolls(seed=0, **changes):
    rng = np.random.default_rng(seed)
    unrolls = Trajectory(
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
    return tf.nest.map_structure(tf.constant, unrolls)


def _batch(seed=0, fresh=(True,) * B, **changes):
    return Batch(_unrolls(seed, **changes), tf.constant(fresh))


def _reading_spec_and_observation():
    """Returns the spec and observations of a vector with a text; some words occur in several of the texts."""
    spec = SPEC._replace(observation={"image": SPEC.observation, "instruction": instructions.SPEC})
    words = np.resize(
        [instructions.encode(text) for text in ("go left", "", "left")], (T + 1, B, instructions.MAX_WORDS)
    )
    return spec, {"image": _unrolls().observation.numpy(), "instruction": words}


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

    def targets(self, unrolls, logits, value):
        """V-trace as a sum over the future (equation 1), for rho_bar = c_bar = 1."""
        reward = np.clip(unrolls.reward.numpy()[1:], -1, 1)
        discount = 0.99 * (1 - unrolls.terminated.numpy()[1:].astype(float))
        action = unrolls.action.numpy()[1:]
        pi = _log_softmax(logits[:-1])
        mu = _log_softmax(unrolls.behaviour_logits.numpy()[1:].astype(float))
        ratio = np.exp(_take(pi - mu, action))
        clipped = np.minimum(ratio, 1)
        v = value.copy()
        for s in range(T):
            for t in range(s, T):
                delta = clipped[t] * (reward[t] + discount[t] * value[t + 1] - value[t])
                v[s] += np.prod(discount[s:t] * clipped[s:t], axis=0) * delta
        advantage = clipped * (reward + discount * v[1:] - value[:-1])
        return v[:-1], advantage

    def loss(self, unrolls, targets):
        logits, value = self.forward(unrolls.observation.numpy().astype(float))
        v, advantage = targets
        log_pi = _log_softmax(logits[:-1])
        policy = -np.sum(advantage * _take(log_pi, unrolls.action.numpy()[1:]))
        baseline = 0.5 * 0.5 * np.sum((v - value[:-1]) ** 2)
        entropy = -np.sum(np.exp(log_pi) * log_pi)
        return policy + baseline - 0.02 * entropy

    def step(self, unrolls, learning_rate):
        logits, value = self.forward(unrolls.observation.numpy().astype(float))
        targets = self.targets(unrolls, logits, value)  # Constants: no gradient flows through them.
        loss, gradients = self.loss(unrolls, targets), []
        for variable in self.values:
            gradient = np.zeros_like(variable)
            for index in np.ndindex(variable.shape):
                kept = variable[index]
                sides = []
                for sign in (1, -1):
                    variable[index] = kept + sign * 1e-6
                    sides.append(self.loss(unrolls, targets))
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
    """Two steps, so that slots, frames and the schedule carry over; the norm is clipped at 0.5 in both."""
    learner = _learner()
    variables = learner.agent.trainable_variables
    assert [tuple(v.shape) for v in variables] == [(64, 2), (2,), (64, 1), (1,), (3, 64), (64,), (64, 64), (64,)]
    by_hand = _NumpyLearner(variables)
    frames = T * B * FRAMES_PER_STEP
    for step in range(2):
        batch = _batch(seed=step)
        metrics = learner.step(batch)
        learning_rate = 0.01 * (1 - step * frames / 1000)
        loss, norm = by_hand.step(batch.unrolls, learning_rate)
        assert norm > 0.5
        np.testing.assert_allclose(metrics["total_loss"], loss, rtol=1e-5)
        np.testing.assert_allclose(metrics["gradient_norm"], norm, rtol=1e-4)
        np.testing.assert_allclose(metrics["learning_rate"], learning_rate, rtol=1e-6)
        for ours, theirs in zip(variables, by_hand.values):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
        assert int(learner.step_count) == step + 1
        assert int(learner.frames) == (step + 1) * frames


@pytest.mark.slow(6)
@pytest.mark.parametrize(
    ("core", "lstm_kernel", "reads"),
    [("none", "auto", False), ("none", "auto", True), ("lstm", "loop", False), ("lstm", "packed", True)],
)
def test_xla_and_lstm_kernel_do_not_change_results(core, lstm_kernel, reads):
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
def test_the_norm_sums_repeated_rows_of_a_sparse_gradient(xla):
    """An embedding's gradient is sparse, with several rows for a word that occurs in several texts."""
    spec, observation = _reading_spec_and_observation()
    learner = _learner(spec=spec, xla=xla)
    batch = _batch(observation=observation)
    norm = np.sqrt(sum(np.sum(np.square(gradient)) for gradient in learner.gradients(batch.unrolls).gradients))
    np.testing.assert_allclose(learner.step(batch)["gradient_norm"], norm, rtol=1e-5)


@pytest.mark.parametrize("xla", ["off", "on"])
def test_an_update_that_is_not_finite_is_refused_entirely(xla):
    learner = _learner(reward_clipping="none", xla=xla)
    learner.step(_batch())
    everything = [*learner.agent.trainable_variables, *learner.optimizer.variables]
    for number, bad in enumerate(("observation", "reward", "behaviour_logits")):
        before = [v.numpy() for v in everything]
        poisoned = getattr(_unrolls(), bad).numpy()
        poisoned[1, 0] = np.nan
        for in_a_row in (1, 2):
            learner.step(_batch(**{bad: poisoned}))
            assert int(learner.refused_in_a_row) == in_a_row, bad
            assert int(learner.refused) == 2 * number + in_a_row, bad
        for variable, value in zip(everything, before):
            np.testing.assert_array_equal(variable, value, err_msg=bad)
        learner.step(_batch(seed=3 + number))
        assert int(learner.refused_in_a_row) == 0 and int(learner.refused) == 2 * (number + 1), bad
        assert int(learner.step_count) == 1 + 3 * (number + 1), bad
        assert any((v.numpy() != value).any() for v, value in zip(everything, before)), bad


@pytest.mark.parametrize("xla", ["off", "on"])
def test_applying_gradients_equals_a_step(xla):
    """Also a refused update, and also gradients that another learner computed."""
    stepped, applied, worker = (_learner(xla=xla, reward_clipping="none") for _ in range(3))
    poisoned = _unrolls().reward.numpy()
    poisoned[1, 0] = np.nan
    for batch in (_batch(0), _batch(1), _batch(2, reward=poisoned), _batch(3)):
        for ours, theirs in zip(worker.agent.trainable_variables, applied.agent.trainable_variables):
            ours.assign(theirs)
        expected = stepped.step(batch)
        found = applied.apply(worker.gradients(batch.unrolls), T * B * FRAMES_PER_STEP)
        assert list(found) == list(expected)
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, err_msg=name)
        for ours, theirs in zip(applied.variables, stepped.variables):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7, err_msg=theirs.name)
    assert int(applied.refused) == 1 and int(applied.step_count) == 4
    assert int(applied.frames) == 4 * T * B * FRAMES_PER_STEP
    assert int(worker.step_count) == int(worker.frames) == 0


def test_apply_does_not_retrace_for_another_number_of_frames():
    learner = _learner()
    for frames in (1, 2, np.int64(3), tf.constant(4)):
        learner.apply(learner.gradients(_unrolls()), frames)
    assert int(learner.frames) == 10
    assert learner._compiled_apply.experimental_get_tracing_count() == 1


def test_only_frames_of_fresh_unrolls_are_counted():
    """A replayed unroll adds to the gradient, but not to the frames, on which the learning rate depends."""
    learner, all_fresh = _learner(), _learner()
    for step, fresh in enumerate(([True, False], [False, False], [True, True])):
        frames = int(learner.frames)
        metrics = learner.step(_batch(step, fresh=fresh))
        assert int(learner.frames) == frames + sum(fresh) * T * FRAMES_PER_STEP
        np.testing.assert_allclose(metrics["learning_rate"], 0.01 * (1 - frames / 1000), rtol=1e-6)
        if step == 0:
            np.testing.assert_array_equal(metrics["gradient_norm"], all_fresh.step(_batch(step))["gradient_norm"])
    assert int(learner.step_count) == 3


def test_trace_builds_the_graph_of_the_batches_to_come():
    learner = _learner("lstm")
    spec = trajectory_spec(SPEC, learner.agent.core_state_spec, T)
    learner.trace(map_spec(lambda array: tf.TensorSpec(array.shape, array.dtype), spec), B)
    assert learner._compiled_step.experimental_get_tracing_count() == 1
    learner.step(_batch(core_state=tf.nest.map_structure(lambda x: x.numpy(), learner.agent.initial_state(B))))
    assert learner._compiled_step.experimental_get_tracing_count() == 1


def test_a_restored_learner_continues_exactly(tmp_path):
    """The object graph of a checkpoint has the names below; they must not change, or older runs cannot be resumed."""
    learner = _learner(rmsprop_momentum=0.5)
    learner.step(_batch(0))
    path = tf.train.Checkpoint(learner=learner).write(str(tmp_path / "variables"))
    names = {name.split("/.ATTRIBUTES")[0] for name, _ in tf.train.list_variables(path)}
    counters = {f"learner/{name}" for name in ("step_count", "frames", "refused", "refused_in_a_row")}
    slots = {f"learner/optimizer/_{kind}/{i}" for kind in ("mean_squares", "steps") for i in range(8)}
    assert counters | slots <= names
    assert {name.split("/")[1] for name in names if name.startswith("learner/")} == {
        *(name.split("/")[1] for name in counters),
        "agent",
        "optimizer",
    }
    restored = _learner(rmsprop_momentum=0.5)
    restored.step(_batch(5))
    tf.train.Checkpoint(learner=restored).read(path).assert_consumed()
    assert int(restored.frames) == T * B * FRAMES_PER_STEP and int(restored.step_count) == 1
    learner.step(_batch(1))
    restored.step(_batch(1))
    for ours, theirs in zip(restored.variables, learner.variables):
        np.testing.assert_array_equal(ours, theirs)


def test_xla_is_chosen_by_device():
    has_gpu = bool(tf.config.list_physical_devices("GPU"))
    assert use_xla("auto") == has_gpu
    assert use_xla("on")
    assert not use_xla("off")

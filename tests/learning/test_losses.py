from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf

from impala_tf.config import LossConfig
from impala_tf.learning.corrections import CORRECTIONS
from impala_tf.learning.losses import REWARD_CLIPPING, clip_reward, impala_loss
from impala_tf.learning.vtrace import Q_ESTIMATES
from impala_tf.structures import AgentOutput, Trajectory

T, B, ACTIONS = 6, 4, 3
SETTINGS = {"discount": 0.9, "baseline_cost": 0.5, "entropy_cost": 0.01}


def batch(seed=0, terminated=(), truncated=(), spread=1.0):
    """Random agent outputs and trajectory; `terminated` and `truncated` are entries (t, b).

    `spread` is the standard deviation of the learner's logits; with 10, many actions have a probability below 1e-6.
    """
    rng = np.random.default_rng(seed)

    def flags(entries):
        array = np.zeros((T + 1, B), bool)
        for t, b in entries:
            array[t, b] = True
        return array

    output = AgentOutput(
        logits=(spread * rng.normal(size=(T + 1, B, ACTIONS))).astype(np.float32),
        value=rng.normal(size=(T + 1, B)).astype(np.float32),
    )
    trajectory = Trajectory(
        observation=np.zeros((T + 1, B, 1), np.uint8),
        reward=(2 * rng.normal(size=(T + 1, B))).astype(np.float32),
        terminated=flags(terminated),
        truncated=flags(truncated),
        episode_return=np.zeros((T + 1, B), np.float32),
        episode_length=np.zeros((T + 1, B), np.int32),
        action=rng.integers(0, ACTIONS, (T + 1, B)).astype(np.int32),
        behaviour_logits=rng.normal(size=(T + 1, B, ACTIONS)).astype(np.float32),
        learner_step=np.zeros((T + 1, B), np.int64),
        core_state=(),
        task_id=np.zeros(B, np.int32),
    )
    return output, trajectory


def softmax(x):
    exp = np.exp(np.asarray(x, np.float64))
    return exp / exp.sum(-1, keepdims=True)


CLIPPED = {
    "abs_one": lambda r: max(-1.0, min(1.0, r)),
    "none": lambda r: r,
    "optimistic_asymmetric": lambda r: 0.3 * min(math.tanh(r), 0.0) + 5.0 * max(math.tanh(r), 0.0),
    "soft_asymmetric": lambda r: (0.3 if r < 0 else 1.0) * 5.0 * math.tanh(r / 5.0),
}


def by_hand(
    output,
    trajectory,
    reward_clipping="abs_one",
    correction="v_trace",
    rho_bar=1.0,
    c_bar=1.0,
    pg_rho_bar=1.0,
    lambda_=1.0,
    q_estimate="v_trace",
):
    """Computes loss terms, advantages and value errors [T, B] by loops over single transitions, in float64."""
    policy_loss = baseline_loss = entropy_loss = 0.0
    entropies, rhos = [], []
    advantages, errors = np.zeros((2, T, B))
    for b in range(B):
        v_next = v_of_observation = float(output.value[T, b])
        carry = 0.0  # v_{s+1} - V(x_{s+1})
        for s in reversed(range(T)):
            pi = softmax(output.logits[s, b])
            entry = s + 1  # Holds the action taken at observation s and its outcome.
            mu = softmax(trajectory.behaviour_logits[entry, b])
            a = trajectory.action[entry, b]
            value = float(output.value[s, b])
            reward = float(trajectory.reward[entry, b])
            reward = CLIPPED[reward_clipping](reward)
            weight = pi[a] / mu[a]
            discount = 0.9
            if trajectory.terminated[entry, b]:
                discount = 0.0
            elif trajectory.truncated[entry, b]:
                discount, reward = 0.0, value
            rho = min(rho_bar, weight) if correction == "v_trace" else 1.0
            c = lambda_ * min(c_bar, weight) if correction == "v_trace" else 1.0
            pg_rho = min(pg_rho_bar, weight) if correction in ("v_trace", "one_step") else 1.0
            delta = rho * (reward + discount * v_of_observation - value)
            q = reward + discount * (v_next if q_estimate == "v_trace" else v_of_observation)
            advantages[s, b] = pg_rho * (q - value)
            carry = delta + discount * c * carry
            v_next, v_of_observation = value + carry, value
            errors[s, b] = carry
            entropy = -sum(p * np.log(p) for p in pi)
            policy_loss -= advantages[s, b] * np.log(pi[a] + (1e-6 if correction == "epsilon" else 0.0))
            baseline_loss += 0.5 * 0.5 * carry**2
            entropy_loss -= 0.01 * entropy
            entropies.append(entropy)
            rhos.append(weight)
    metrics = {
        "total_loss": policy_loss + baseline_loss + entropy_loss,
        "policy_loss": policy_loss,
        "baseline_loss": baseline_loss,
        "entropy_loss": entropy_loss,
        "entropy": np.mean(entropies),
        "value": np.mean(output.value[:-1], dtype=np.float64),
        "rho": np.mean(np.minimum(rhos, 1.0)),
        "rho_clipped": np.mean(np.array(rhos) > rho_bar),
    }
    return metrics, advantages, errors


ENDS = {"terminated": [(1, 0), (3, 1), (6, 2), (4, 3)], "truncated": [(2, 0), (6, 1), (3, 2), (4, 3)]}
VARIANTS = [
    {},
    {"reward_clipping": "none"},
    {"reward_clipping": "optimistic_asymmetric"},
    {"reward_clipping": "soft_asymmetric"},
    {"rho_bar": 1.7, "c_bar": 1.2, "pg_rho_bar": 1.4, "lambda_": 0.9},
    *({"correction": correction, "q_estimate": estimate} for correction in CORRECTIONS for estimate in Q_ESTIMATES),
    {"correction": "one_step", "pg_rho_bar": 1.4},
]


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("kwargs", VARIANTS)
def test_equals_loss_by_hand(kwargs, jit_compile):
    output, trajectory = batch(**ENDS, spread=10.0 if kwargs.get("correction") == "epsilon" else 1.0)
    assert 0.2 < np.mean(np.abs(trajectory.reward) > 1) < 0.9
    loss, metrics = tf.function(
        lambda: impala_loss(output, trajectory, **SETTINGS, **kwargs), jit_compile=jit_compile
    )()
    expected, _, _ = by_hand(output, trajectory, **kwargs)
    assert loss.shape == ()
    assert {x.dtype for x in metrics.values()} == {tf.float32}
    np.testing.assert_allclose(loss, expected["total_loss"], rtol=1e-5)
    assert set(metrics) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("kwargs", VARIANTS)
def test_gradients_by_hand(kwargs):
    """d/dlogits: -A (onehot(a) - pi) + entropy_cost pi (log pi + H); d/dV: -baseline_cost (v - V); none for entry T.

    With log(pi(a) + 1e-6) for log pi(a), A is multiplied by pi(a) / (pi(a) + 1e-6).
    """
    output, trajectory = batch(seed=1, **ENDS, spread=10.0 if kwargs.get("correction") == "epsilon" else 1.0)
    output = AgentOutput(*map(tf.constant, output))
    with tf.GradientTape() as tape:
        tape.watch(output)
        loss, _ = impala_loss(output, trajectory, **SETTINGS, **kwargs)
    gradient = tape.gradient(loss, output)
    _, advantages, errors = by_hand(AgentOutput(*(x.numpy() for x in output)), trajectory, **kwargs)
    pi = softmax(output.logits[:-1])
    entropy = -(pi * np.log(pi)).sum(-1, keepdims=True)
    taken = np.eye(ACTIONS)[trajectory.action[1:]]
    pi_of_taken = (taken * pi).sum(-1)
    if kwargs.get("correction") == "epsilon":
        assert 0.1 < np.mean(pi_of_taken < 1e-6) < 0.9
        advantages *= pi_of_taken / (pi_of_taken + 1e-6)
    logits = -advantages[..., None] * (taken - pi)
    logits += 0.01 * pi * (np.log(pi) + entropy)
    np.testing.assert_allclose(gradient.logits[:-1], logits, atol=2e-5)
    np.testing.assert_allclose(gradient.value[:-1], -0.5 * errors, atol=2e-5)
    assert not np.any(gradient.logits[-1]) and not np.any(gradient.value[-1])


def test_only_transitions_of_the_unroll_count():
    """Of entry 0, only the observation is read: the rest belongs to the previous unroll's last transition."""
    output, trajectory = batch()
    loss, _ = impala_loss(output, trajectory, **SETTINGS)
    for field in ("reward", "terminated", "truncated", "action", "behaviour_logits"):
        array = getattr(trajectory, field).copy()
        array[0] = 1 - array[0]
        np.testing.assert_array_equal(impala_loss(output, trajectory._replace(**{field: array}), **SETTINGS)[0], loss)
        array = getattr(trajectory, field).copy()
        array[T] = 1 - array[T] if array.dtype != np.int32 else (array[T] + 1) % ACTIONS
        if field == "behaviour_logits":
            array[T, :, 0] += 5.0
        changed = trajectory._replace(**{field: array})
        assert impala_loss(output, changed, **SETTINGS)[0] != loss, field


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("correction", CORRECTIONS)
def test_gradients_are_finite_where_pi_is_0_in_float32(correction, jit_compile):
    output, trajectory = batch(spread=1e4)

    def gradient_of(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss, _ = impala_loss(output._replace(logits=logits), trajectory, **SETTINGS, correction=correction)
        return loss, tape.gradient(loss, logits)

    loss, gradient = tf.function(gradient_of, jit_compile=jit_compile)(tf.constant(output.logits))
    assert np.isfinite(loss) and np.all(np.isfinite(gradient))
    taken = np.take_along_axis(softmax(output.logits[:-1] / 1e4), trajectory.action[1:, ..., None], -1)[..., 0]
    hardly = taken < softmax(output.logits[:-1] / 1e4).max(-1)  # The actions with pi = 0; pi is 1 for all others.
    assert 0.2 < hardly.mean() < 0.9
    # v_trace and one_step have w = 0 there, epsilon has pi / (pi + 1e-6) = 0. Without correction, nothing limits them.
    assert np.all(np.any(gradient[:-1], axis=-1)[hardly] == (correction == "none"))


@pytest.mark.parametrize("q_estimate", Q_ESTIMATES)
@pytest.mark.parametrize("correction", CORRECTIONS)
class TestTruncation:
    """A time limit at the transition into entry t: transition t - 1 has no target."""

    B_ENV, ENTRY = 2, 4

    @pytest.fixture
    def gradients(self, correction, q_estimate):
        """Computes the gradients of the loss in the agent's output."""

        def compute(output, trajectory, entropy_cost=0.0):
            settings = {**SETTINGS, "entropy_cost": entropy_cost, "correction": correction, "q_estimate": q_estimate}
            output = AgentOutput(*map(tf.constant, output))
            with tf.GradientTape() as tape:
                tape.watch(output)
                loss, _ = impala_loss(output, trajectory, **settings)
            return tape.gradient(loss, output)

        return compute

    def test_no_gradient_from_it_but_the_entropy(self, gradients):
        output, trajectory = batch(truncated=[(self.ENTRY, self.B_ENV)])
        gradient = gradients(output, trajectory)
        s, b = self.ENTRY - 1, self.B_ENV
        assert not np.any(gradient.logits[s, b]) and gradient.value[s, b] == 0.0  # Exactly.
        assert np.all(np.any(gradient.logits[:-1], axis=-1) == (np.arange(T)[:, None] != s) | (np.arange(B) != b))
        assert np.any(gradients(output, trajectory, entropy_cost=0.01).logits[s, b])

    def test_earlier_transitions_bootstrap_from_its_value(self, gradients):
        """They get the gradients of an unroll that ends at its observation."""
        output, trajectory = batch(truncated=[(self.ENTRY, self.B_ENV)])
        s, b = self.ENTRY - 1, self.B_ENV
        short_output = AgentOutput(*(x[: s + 1] for x in output))
        arrays = {k: v[: s + 1] for k, v in trajectory._asdict().items() if k not in ("core_state", "task_id")}
        whole, short = gradients(output, trajectory), gradients(short_output, trajectory._replace(**arrays))
        np.testing.assert_allclose(whole.logits[:s, b], short.logits[:s, b], atol=1e-6)
        np.testing.assert_allclose(whole.value[:s, b], short.value[:s, b], atol=1e-6)
        assert np.any(whole.value[:s, b])

    def test_what_came_with_it_and_after_it_does_not_matter(self, gradients):
        output, trajectory = batch(truncated=[(self.ENTRY, self.B_ENV)])
        reward, value = trajectory.reward.copy(), output.value.copy()
        reward[self.ENTRY :, self.B_ENV] += 0.7
        value[self.ENTRY :, self.B_ENV] -= 3.0
        one = gradients(output, trajectory)
        other = gradients(output._replace(value=value), trajectory._replace(reward=reward))
        for a, b in zip(one, other):
            np.testing.assert_array_equal(a[: self.ENTRY, self.B_ENV], b[: self.ENTRY, self.B_ENV])
            assert not np.allclose(a[self.ENTRY :, self.B_ENV], b[self.ENTRY :, self.B_ENV])

    def test_terminated_wins(self, correction, q_estimate):
        at = [(self.ENTRY, self.B_ENV)]
        both, terminated, truncated = (
            impala_loss(*batch(**flags), **SETTINGS, correction=correction, q_estimate=q_estimate)[0]
            for flags in ({"terminated": at, "truncated": at}, {"terminated": at}, {"truncated": at})
        )
        assert both == terminated != truncated


def test_sum_over_batch():
    """Twice the batch is twice the loss (Table D.1's caption: sums, not means)."""
    output, trajectory = batch()
    twice = AgentOutput(*(np.concatenate([x, x], axis=1) for x in output))
    fields = {k: np.concatenate([v, v], axis=1) for k, v in trajectory._asdict().items() if np.ndim(v) > 1}
    loss, metrics = impala_loss(output, trajectory, **SETTINGS)
    loss_of_twice, metrics_of_twice = impala_loss(twice, trajectory._replace(**fields), **SETTINGS)
    np.testing.assert_allclose(loss_of_twice, 2 * loss, rtol=1e-5)
    for name in ("entropy", "value", "rho", "rho_clipped"):
        np.testing.assert_allclose(metrics_of_twice[name], metrics[name], rtol=1e-5)


def test_no_clipping_and_unknown_clipping():
    output, trajectory = batch()
    unclipped, metrics = impala_loss(output, trajectory, **SETTINGS, rho_bar=None, c_bar=None, pg_rho_bar=None)
    far, _ = impala_loss(output, trajectory, **SETTINGS, rho_bar=1e6, c_bar=1e6, pg_rho_bar=1e6)
    np.testing.assert_allclose(unclipped, far, rtol=1e-6)
    assert metrics["rho_clipped"] == 0.0
    with pytest.raises(ValueError, match="Unknown reward clipping 'sign'; choose one of abs_one, none"):
        impala_loss(output, trajectory, **SETTINGS, reward_clipping="sign")


@pytest.mark.parametrize(
    ("reward_clipping", "clipped"),
    [
        ("abs_one", {-10: -1, -1: -1, -0.5: -0.5, 0: 0, 0.5: 0.5, 1: 1, 10: 1}),
        ("none", {-10: -10, -1: -1, -0.5: -0.5, 0: 0, 0.5: 0.5, 1: 1, 10: 10}),
        # tanh 0.5 = 0.4621172, tanh 1 = 0.7615942, tanh 10 = 1.0000000.
        (
            "optimistic_asymmetric",
            {-10: -0.3, -1: -0.2284783, -0.5: -0.1386352, 0: 0, 0.5: 2.310586, 1: 3.807971, 10: 5},
        ),
        # tanh 0.1 = 0.0996680, tanh 0.2 = 0.1973753, tanh 2 = 0.9640276.
        (
            "soft_asymmetric",
            {-10: -1.4460414, -1: -0.296063, -0.5: -0.149502, 0: 0, 0.5: 0.49834, 1: 0.9868766, 10: 4.820138},
        ),
    ],
)
def test_reward_clipping(reward_clipping, clipped):
    """On-policy, V = 0 and uniform over 3 actions, a transition that ends the episode has loss r log 3."""
    output, trajectory = batch(terminated=[(t, b) for t in range(1, T + 1) for b in range(B)])
    output = AgentOutput(*map(np.zeros_like, output))
    trajectory = trajectory._replace(behaviour_logits=np.zeros_like(trajectory.behaviour_logits))
    for reward, expected in clipped.items():
        rewards = np.zeros_like(trajectory.reward)
        rewards[1, 0] = reward
        _, metrics = impala_loss(
            output, trajectory._replace(reward=rewards), **SETTINGS, reward_clipping=reward_clipping
        )
        np.testing.assert_allclose(metrics["policy_loss"], expected * math.log(3), rtol=1e-6)
        np.testing.assert_allclose(metrics["baseline_loss"], 0.25 * expected**2, rtol=2e-6)


def test_the_setting_has_the_choices_of_the_loss():
    (setting,) = (setting for setting in dataclasses.fields(LossConfig) if setting.name == "reward_clipping")
    assert setting.metadata["choices"] == REWARD_CLIPPING


@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize("clipping", REWARD_CLIPPING)
def test_rewards_that_are_not_finite_are_not_clipped_away(clipping, xla):
    """An update with such a loss is refused. In XLA, minima and maxima do not pass NaN on."""
    rewards = tf.constant([math.nan, math.inf, -math.inf, 3.0])
    clipped = tf.function(lambda x: clip_reward(x, clipping), jit_compile=xla)(rewards)
    assert np.isnan(clipped).tolist() == [True, True, True, False]
    np.testing.assert_allclose(clipped[3], clip_reward(rewards, clipping)[3], rtol=1e-6)

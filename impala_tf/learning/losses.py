"""The actor-critic loss of IMPALA (section 4.2), summed over time and batch (Table D.1)."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from impala_tf.learning import corrections, vtrace
from impala_tf.structures import AgentOutput, Trajectory

_REWARD_CLIPPING = {
    "abs_one": lambda reward: tf.clip_by_value(reward, -1.0, 1.0),  # Tables D.3 and G.1.
    "none": lambda reward: reward,
    # The formula of Figure D.1, and the one in the authors' code (scalable_agent, soft_asymmetric).
    "optimistic_asymmetric": lambda r: 0.3 * tf.minimum(tf.tanh(r), 0.0) + 5.0 * tf.maximum(tf.tanh(r), 0.0),
    "soft_asymmetric": lambda r: 5.0 * tf.tanh(r / 5.0) * tf.where(r < 0.0, 0.3, 1.0),
}
REWARD_CLIPPING = tuple(_REWARD_CLIPPING)


def clip_reward(reward, clipping: str) -> tf.Tensor:
    """Clips rewards as the loss does.

    Args:
      reward: any shape and numeric type.
      clipping: one of `REWARD_CLIPPING`.

    Returns:
      float32, of the same shape. NaN for rewards that are not finite, so that the update is refused.

    Raises:
      ValueError: the clipping is unknown.
    """
    if clipping not in _REWARD_CLIPPING:
        raise ValueError(f"Unknown reward clipping {clipping!r}; choose one of {', '.join(REWARD_CLIPPING)}.")
    reward = tf.cast(reward, tf.float32)
    # Clipping would hide them: a minimum turns infinity into 1 and, in XLA, NaN too.
    return tf.where(tf.math.is_finite(reward), _REWARD_CLIPPING[clipping](reward), math.nan)


def impala_loss(
    agent_output: AgentOutput,
    trajectory: Trajectory,
    *,
    discount: float,
    baseline_cost: float,
    entropy_cost: float,
    reward_clipping: str = "abs_one",
    correction: str = "v_trace",
    rho_bar: float | None = 1.0,
    c_bar: float | None = 1.0,
    pg_rho_bar: float | None = 1.0,
    lambda_: float = 1.0,
    q_estimate: str = "v_trace",
) -> tuple[tf.Tensor, dict[str, Any]]:
    """Computes the loss of a batch of unrolls and its metrics.

        - sum A_s log pi(a_s | x_s) + baseline_cost 1/2 sum (v_s - V(x_s))^2 - entropy_cost sum H(pi(. | x_s))

    where v_s and A_s are constants that the correction computes; the "epsilon" correction has log(pi + 1e-6) for
    log pi. The sums run over the T transitions of every unroll.

    Args:
      agent_output: the learner's answers to the trajectory's observations, time-major [T + 1, B, ...].
      trajectory: time-major [T + 1, B, ...].
      discount: gamma per agent step.
      baseline_cost: weight of the value loss.
      entropy_cost: weight of the entropy bonus.
      reward_clipping: one of `REWARD_CLIPPING`.
      correction: off-policy correction, see `corrections.find`.
      rho_bar, c_bar, pg_rho_bar, lambda_, q_estimate: see `corrections.TargetsFunction`.

    Returns:
      The loss, a float32 scalar, and float32 scalars by name: `total_loss` and its three terms `policy_loss`,
      `baseline_loss`, `entropy_loss` (costs included); means per transition of `entropy` (nats), `value`, `rho` (the
      importance weight clipped at 1) and `rho_clipped` (the fraction of weights above rho_bar). The last two describe
      the data, so that they compare: they are the same for all corrections, also for those that clip nothing.

    Raises:
      ValueError: the reward clipping or the q_estimate is unknown, or the shapes do not match.
      UserError: there is no such correction.
    """
    chosen = corrections.find(correction)
    # Transition s goes from observation s to observation s + 1. The agent's answer to observation s is entry s of its
    # output; the action taken there and its outcome are entry s + 1 of the trajectory.
    logits = tf.cast(agent_output.logits[:-1], tf.float32)
    values = tf.cast(agent_output.value, tf.float32)
    values, bootstrap_value = values[:-1], values[-1]
    action, behaviour_logits = trajectory.action[1:], trajectory.behaviour_logits[1:]
    terminated, truncated = trajectory.terminated[1:], trajectory.truncated[1:]
    rewards = clip_reward(trajectory.reward[1:], reward_clipping)
    discounts = discount * (1.0 - tf.cast(terminated, tf.float32))

    # After a time limit the return is unknown, not 0, and the next observation belongs to another episode. The best
    # estimate of the return from x_s is then V(x_s). With V(x_s) as reward and discount 0, the temporal difference, the
    # advantage and the baseline's error of this transition are exactly 0, the trace ends here, and earlier transitions
    # bootstrap from V(x_s). If the episode also terminated, the return is known and nothing is replaced.
    unknown = tf.logical_and(truncated, tf.logical_not(terminated))
    rewards = tf.where(unknown, tf.stop_gradient(values), rewards)
    discounts = tf.where(unknown, 0.0, discounts)

    log_rhos = vtrace.log_importance_weights(behaviour_logits, logits, action)
    targets = chosen.targets(
        log_rhos,
        discounts,
        rewards,
        values,
        bootstrap_value,
        rho_bar=rho_bar,
        c_bar=c_bar,
        pg_rho_bar=pg_rho_bar,
        lambda_=lambda_,
        q_estimate=q_estimate,
    )

    log_pi = chosen.log_probability(vtrace.log_probs_from_logits_and_actions(logits, action))
    entropy = _entropy(logits)
    policy_loss = -tf.reduce_sum(targets.pg_advantages * log_pi)
    baseline_loss = baseline_cost * 0.5 * tf.reduce_sum(tf.square(targets.vs - values))
    entropy_loss = -entropy_cost * tf.reduce_sum(entropy)
    total_loss = policy_loss + baseline_loss + entropy_loss

    rhos = tf.exp(log_rhos)
    clipped = tf.zeros_like(rhos) if rho_bar is None else tf.cast(rhos > rho_bar, tf.float32)
    metrics = {
        "total_loss": total_loss,
        "policy_loss": policy_loss,
        "baseline_loss": baseline_loss,
        "entropy_loss": entropy_loss,
        "entropy": tf.reduce_mean(entropy),
        "value": tf.reduce_mean(values),
        "rho": tf.reduce_mean(tf.minimum(rhos, 1.0)),
        "rho_clipped": tf.reduce_mean(clipped),
    }
    return total_loss, {name: tf.stop_gradient(metric) for name, metric in metrics.items()}


def _entropy(logits: tf.Tensor) -> tf.Tensor:
    """Returns the entropy of the softmax policy in nats, [...], for logits [..., num_actions]."""
    log_pi = tf.nn.log_softmax(logits)
    return -tf.reduce_sum(tf.exp(log_pi) * log_pi, axis=-1)

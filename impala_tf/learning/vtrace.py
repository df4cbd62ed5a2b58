"""V-trace: value targets and policy-gradient advantages from off-policy trajectories (IMPALA, sections 4.1 and 4.2).

Everything is time-major: T is the unroll length and B the batch size; `[T, B, ...]` stands for any number of dimensions
after T, including none. Index t of every argument refers to one transition: in x_t the behavior policy mu drew a_t, the
environment answered with r_t, and the future is discounted by discount_t (0 if the episode ended there).

    v_s = V(x_s) + sum_{t=s}^{T-1} (prod_{i=s}^{t-1} discount_i c_i) delta_t                          (equation 1)
    delta_t = rho_t (r_t + discount_t V(x_{t+1}) - V(x_t))
    advantage_s = rho_s^{pg} (q_s - V(x_s)),  q_s = r_s + discount_s v_{s+1}                         (section 4.2)

with w_t = pi(a_t | x_t) / mu(a_t | x_t), rho_t = min(rho_bar, w_t), c_t = lambda min(c_bar, w_t) and
rho_t^{pg} = min(pg_rho_bar, w_t). The paper compares q_s with r_s + discount_s V(x_{s+1}) (Figures E.3 and E.4).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

Q_ESTIMATES = ("v_trace", "value")


class Targets(NamedTuple):
    """Targets of the loss, which are constants of it: no gradient flows through them.

    Attributes:
      vs: float32 [T, B, ...], the targets of V(x_s).
      pg_advantages: float32 [T, B, ...], the advantages that weight grad log pi(a_s | x_s).
    """

    vs: Any
    pg_advantages: Any


def log_probs_from_logits_and_actions(logits, actions) -> tf.Tensor:
    """Returns the log-probability of each action under the softmax policy.

    Args:
      logits: floating [..., num_actions], unnormalized log-probabilities.
      actions: integer [...].

    Returns:
      float32 [...] under any precision policy, because bfloat16 is too coarse for ratios of probabilities.

    Raises:
      ValueError: the shapes do not match.
    """
    logits = tf.cast(logits, tf.float32)
    actions = tf.convert_to_tensor(actions)
    _require_same_shape("actions", actions.shape, logits.shape[:-1])
    return -tf.nn.sparse_softmax_cross_entropy_with_logits(labels=actions, logits=logits)


def log_importance_weights(behaviour_logits, target_logits, actions) -> tf.Tensor:
    """Returns log w_t = log pi(a_t | x_t) - log mu(a_t | x_t) for softmax policies, without gradient.

    Args:
      behaviour_logits: floating [T, B, ..., num_actions], logits of the behavior policy mu.
      target_logits: floating [T, B, ..., num_actions], logits of the learner's policy pi.
      actions: integer [T, B, ...], drawn from mu.

    Returns:
      float32 [T, B, ...].

    Raises:
      ValueError: the shapes do not match.
    """
    return tf.stop_gradient(
        log_probs_from_logits_and_actions(target_logits, actions)
        - log_probs_from_logits_and_actions(behaviour_logits, actions)
    )


def v_trace(
    log_rhos,
    discounts,
    rewards,
    values,
    bootstrap_value,
    *,
    rho_bar: float | None,
    c_bar: float | None,
    pg_rho_bar: float | None,
    lambda_: float,
    q_estimate: str,
) -> Targets:
    """Computes V-trace targets from log importance weights, by the backward recursion of remark 1.

    Everything is computed in float32, whatever the floating type of the arguments.

    Args:
      log_rhos: [T, B, ...], log w_t.
      discounts: [T, B, ...], the discount after each transition; 0 if it ended the episode.
      rewards: [T, B, ...], r_t.
      values: [T, B, ...], V(x_t).
      bootstrap_value: [B, ...], V(x_T).
      rho_bar: clip of the weights in the temporal differences, which determines the value function that is learned;
        None does not clip.
      c_bar: clip of the weights in the trace, which limits its variance; None does not clip.
      pg_rho_bar: clip of the weights in the advantages; None does not clip.
      lambda_: factor of c_t in [0, 1] (remark 2).
      q_estimate: one of `Q_ESTIMATES`. "v_trace": q_s = r_s + discount_s v_{s+1}; "value": r_s + discount_s V(x_{s+1}).

    Raises:
      ValueError: the estimate is unknown, or the shapes do not match.
    """
    if q_estimate not in Q_ESTIMATES:
        raise ValueError(f"Unknown q_estimate {q_estimate!r}; choose one of {', '.join(Q_ESTIMATES)}.")
    log_rhos, discounts, rewards, values, bootstrap_value = (
        tf.cast(x, tf.float32) for x in (log_rhos, discounts, rewards, values, bootstrap_value)
    )
    _check_shapes(log_rhos, discounts, rewards, values, bootstrap_value)

    weights = tf.exp(log_rhos)
    rhos = clip(weights, rho_bar)
    cs = lambda_ * clip(weights, c_bar)

    next_values = tf.concat([values[1:], bootstrap_value[tf.newaxis]], axis=0)  # V(x_{t+1})
    deltas = rhos * (rewards + discounts * next_values - values)

    # v_s - V(x_s) = delta_s + discount_s c_s (v_{s+1} - V(x_{s+1})), starting from 0 at the end of the unroll.
    vs_minus_values = _backward_recursion(deltas, discounts * cs)
    vs = values + vs_minus_values

    # Unlike v_s, both estimates have the expectation Q where V is exact (section 4.2).
    next_vs = tf.concat([vs[1:], bootstrap_value[tf.newaxis]], axis=0)
    q_values = rewards + discounts * {"v_trace": next_vs, "value": next_values}[q_estimate]
    pg_advantages = clip(weights, pg_rho_bar) * (q_values - values)
    return Targets(vs=tf.stop_gradient(vs), pg_advantages=tf.stop_gradient(pg_advantages))


def _backward_recursion(addends: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """Solves y_t = addends_t + factors_t y_{t+1} with y_T = 0; all [T, ...]."""
    return tf.scan(
        lambda later, now: now[0] + now[1] * later,
        (addends, factors),
        initializer=tf.zeros_like(addends[0]),
        reverse=True,
    )


def clip(weights: tf.Tensor, threshold: float | None) -> tf.Tensor:
    """Returns min(threshold, weights), of the shape of the weights; a threshold of None does not clip."""
    return weights if threshold is None else tf.minimum(weights, threshold)


def _check_shapes(log_rhos, discounts, rewards, values, bootstrap_value) -> None:
    if log_rhos.shape.rank == 0:
        raise ValueError("log_rhos must be [T, ...], time first; it is a scalar.")
    for name, x in (("discounts", discounts), ("rewards", rewards), ("values", values)):
        _require_same_shape(name, x.shape, log_rhos.shape)
    _require_same_shape("bootstrap_value", bootstrap_value.shape, log_rhos.shape[1:])


def _require_same_shape(name: str, shape: tf.TensorShape, expected: tf.TensorShape) -> None:
    # Broadcasting would silently accept many wrong shapes.
    if not shape.is_compatible_with(expected):
        raise ValueError(f"{name} must have shape {expected}; it has {shape}.")

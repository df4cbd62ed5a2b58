"""Off-policy corrections, chosen by name: how to learn from unrolls of an older policy (section 5.2.2, Table 2).

A correction decides what depends on which policy acted: the target v_s of V(x_s), the advantage A_s, and the
log-probability whose gradient A_s multiplies. With q_s and w_s as in `vtrace`, and R_s the n-step return
r_s + discount_s R_{s+1}, R_T = V(x_T):

    name        v_s          A_s                                    log-probability
    v_trace     equation 1   min(pg_rho_bar, w_s) (q_s - V(x_s))    log pi(a_s | x_s)
    one_step    R_s          min(pg_rho_bar, w_s) (q_s - V(x_s))    log pi(a_s | x_s)
    epsilon     R_s          q_s - V(x_s)                           log(pi(a_s | x_s) + 1e-6)
    none        R_s          q_s - V(x_s)                           log pi(a_s | x_s)

If pi = mu, all weights are 1 and all agree (equation 2), except for epsilon's 1e-6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from impala_tf import extensions
from impala_tf.errors import UserError
from impala_tf.learning.vtrace import Targets, clip, v_trace

EPSILON = 1e-6


class TargetsFunction(Protocol):
    """Computes `Targets` from the transitions of an unroll.

    Every correction's takes all arguments, so that one can be swapped for another; it ignores those it has no use for.
    """

    def __call__(
        self,
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
        """Computes the targets.

        Args:
          log_rhos: [T, B, ...], log w_t = log pi(a_t | x_t) - log mu(a_t | x_t).
          discounts: [T, B, ...], the discount after each transition; 0 if it ended the episode.
          rewards: [T, B, ...], r_t.
          values: [T, B, ...], V(x_t).
          bootstrap_value: [B, ...], V(x_T).
          rho_bar, c_bar, pg_rho_bar: clips of the importance weights in the temporal differences, in the trace and in
            the advantages; None does not clip.
          lambda_: factor of the trace in [0, 1] (remark 2).
          q_estimate: one of `vtrace.Q_ESTIMATES`. "v_trace": q_s = r_s + discount_s v_{s+1} (section 4.2); "value":
            r_s + discount_s V(x_{s+1}) (Figures E.3 and E.4).

        Raises:
          ValueError: the estimate is unknown, or the shapes do not match.
        """


class Correction(NamedTuple):
    """One way to learn from an unroll.

    Attributes:
      targets: computes v_s and A_s.
      log_probability: maps log pi(a_s | x_s), float32 [...], to the log-probability that is differentiated, of the
        same shape.
    """

    targets: TargetsFunction
    log_probability: Callable[[Any], Any]


def one_step(
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
    """Computes n-step returns, and advantages with the importance weight of their own step: V-trace without traces.

        v_s = r_s + discount_s v_{s+1}, v_T = V(x_T)
        A_s = min(pg_rho_bar, w_s) (q_s - V(x_s))

    Arguments as for `TargetsFunction`; rho_bar, c_bar and lambda_ are not used.
    """
    targets = uncorrected(
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
    weights = clip(tf.exp(tf.cast(log_rhos, tf.float32)), pg_rho_bar)
    return targets._replace(pg_advantages=tf.stop_gradient(weights * targets.pg_advantages))


def uncorrected(
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
    """Computes n-step returns and their advantages, as if the learner's policy had acted.

        v_s = r_s + discount_s v_{s+1}, v_T = V(x_T)
        A_s = q_s - V(x_s)

    Arguments as for `TargetsFunction`; of log_rhos only the shape is used, and no clip and no lambda_.
    """
    return v_trace(  # With all weights 1, equation 1 is the n-step return (equation 2).
        tf.zeros_like(log_rhos),
        discounts,
        rewards,
        values,
        bootstrap_value,
        rho_bar=None,
        c_bar=None,
        pg_rho_bar=None,
        lambda_=1.0,
        q_estimate=q_estimate,
    )


def plain(log_pi):
    """Returns log pi(a | x) as it is."""
    return log_pi


def plus_epsilon(log_pi):
    """Returns log(pi(a | x) + 1e-6) for log pi(a | x), float32 [...].

    Its gradient is that of log pi(a | x), times pi / (pi + 1e-6). Actions that the learner's policy hardly takes any
    more then have almost no gradient, where that of log pi is largest. Value and gradient are finite also where
    pi(a | x) is 0 in float32.
    """
    return math.log(EPSILON) + tf.nn.softplus(log_pi - math.log(EPSILON))


CORRECTIONS: dict[str, Correction] = {
    "v_trace": Correction(v_trace, plain),
    "one_step": Correction(one_step, plain),
    "epsilon": Correction(uncorrected, plus_epsilon),
    "none": Correction(uncorrected, plain),
}
"""The corrections of Table 2; `impala_tf.config.CORRECTIONS` has the settings that each of them uses."""


def find(name: str) -> Correction:
    """Returns a correction.

    Args:
      name: one of `CORRECTIONS`, or a user's own as module:attribute.

    Raises:
      UserError: there is none of that name.
    """
    if name in CORRECTIONS:
        return CORRECTIONS[name]
    if extensions.is_name(name):
        return extensions.load("correction", name, Correction)
    raise UserError(f"Unknown correction {name!r}; choose one of {', '.join(CORRECTIONS)}, or {extensions.FORM}.")

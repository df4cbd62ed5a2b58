"""Off-policy corrections: the ways to compute value targets and advantages from an unroll, chosen by name (Table 2)."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from impala_tf.learning import vtrace


class Targets(NamedTuple):
    """Targets of the loss; no gradient flows through them.

    Attributes:
      vs: float32 [T, B, ...], the targets of V(x_s).
      pg_advantages: float32 [T, B, ...], the advantages that weight grad log pi(a_s | x_s).
    """

    vs: Any
    pg_advantages: Any


class Correction(Protocol):
    """Computes `Targets` from the transitions of an unroll.

    Every correction takes all arguments, so that one can be swapped for another; it ignores those it has no use for.
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
    ) -> Targets:
        """Computes the targets.

        Args:
          log_rhos: [T, B, ...], log pi(a_t | x_t) - log mu(a_t | x_t).
          discounts: [T, B, ...], the discount after each transition; 0 if it ended the episode.
          rewards: [T, B, ...], r_t.
          values: [T, B, ...], V(x_t).
          bootstrap_value: [B, ...], V(x_T).
          rho_bar, c_bar, pg_rho_bar: clips of the importance weights in the temporal differences, in the trace and in
            the advantages; None does not clip.
          lambda_: factor of the trace in [0, 1] (remark 2).

        Raises:
          ValueError: the shapes do not match.
        """


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
) -> Targets:
    """Computes V-trace targets (section 4.1); arguments and errors as in `Correction`."""
    returns = vtrace.from_importance_weights(
        log_rhos,
        discounts,
        rewards,
        values,
        bootstrap_value,
        clip_rho_threshold=rho_bar,
        clip_c_threshold=c_bar,
        clip_pg_rho_threshold=pg_rho_bar,
        lambda_=lambda_,
    )
    return Targets(vs=returns.vs, pg_advantages=returns.pg_advantages)


CORRECTIONS: dict[str, Correction] = {"v_trace": v_trace}

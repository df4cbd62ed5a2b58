"""Off-policy corrections: the ways to compute value targets and advantages from an unroll, chosen by name (Table 2)."""

from __future__ import annotations

from typing import Protocol

from impala_tf.learning.vtrace import Targets, v_trace


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


CORRECTIONS: dict[str, Correction] = {"v_trace": v_trace}

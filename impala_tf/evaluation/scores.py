"""What the episodes of an evaluation say: means with confidence intervals, and human normalised scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from impala_tf import suites

CONFIDENCE = 0.95
_RESAMPLES = 1000


def of_task(env_id: str, returns: Sequence[float], lengths: Sequence[int]) -> dict[str, Any]:
    """Statistics of one task.

    Args:
      env_id: of the task.
      returns: undiscounted, unclipped, of full games; at least one.
      lengths: of the same, agent steps.

    Returns:
      `mean`, `median`, `std` (of the episodes, with n - 1), `min` and `max` of the returns, `mean_ci95`: the 95%
      interval of the mean (percentile bootstrap), `mean_length`, and `human_normalised`: the mean's score, a fraction,
      None where the task has no references.
    """
    values = np.asarray(returns, np.float64)
    return {
        "mean": float(values.mean()),
        "mean_ci95": _interval(_resampled_means(values)),
        "median": float(np.median(values)),
        "std": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
        "min": float(values.min()),
        "max": float(values.max()),
        "mean_length": float(np.mean(lengths)),
        "human_normalised": suites.human_normalised(env_id, float(values.mean())),
    }


def of_suite(suite: str, returns: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The aggregate scores of a suite, fractions, each with its 95% interval over the episodes of every task.

    Atari-57's main score is `human_normalised_median` (Table 4), DMLab-30's `human_normalised_mean_capped` (Table 3).

    Args:
      suite: one of `suites.SUITES`.
      returns: of all its tasks.
    """
    means = {env_id: _resampled_means(values, stream) for stream, (env_id, values) in enumerate(returns.items())}
    scores: dict[str, Any] = {"name": suite, "references": suites.references(suite)[0]}
    for name, aggregate in (
        ("human_normalised_median", suites.median_human_normalised),
        ("human_normalised_mean", suites.mean_human_normalised),
        ("human_normalised_mean_capped", suites.mean_capped_human_normalised),
    ):
        scores[name] = aggregate(suite, {env_id: float(np.mean(values)) for env_id, values in returns.items()})
        resampled = [aggregate(suite, {env_id: float(m[i]) for env_id, m in means.items()}) for i in range(_RESAMPLES)]
        scores[f"{name}_ci95"] = _interval(resampled)
    return scores


def _resampled_means(values: Sequence[float] | np.ndarray, stream: int = 0) -> np.ndarray:
    """Means of bootstrap resamples, float64 [_RESAMPLES]; the same values and stream give the same ones."""
    chosen = np.random.default_rng(stream).integers(len(values), size=(_RESAMPLES, len(values)))
    return np.asarray(values, np.float64)[chosen].mean(axis=1)


def _interval(resampled: Sequence[float] | np.ndarray) -> list[float]:
    """[low, high] of the percentile bootstrap."""
    tail = (1 - CONFIDENCE) / 2
    return [float(x) for x in np.quantile(resampled, [tail, 1 - tail])]

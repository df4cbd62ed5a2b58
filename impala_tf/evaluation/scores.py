"""Scores from the returns of an evaluation: means with confidence intervals, and human-normalized scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from impala_tf import suites

CONFIDENCE = 0.95
_RESAMPLES = 1000


def of_task(env_id: str, returns: Sequence[float], lengths: Sequence[int]) -> dict[str, Any]:
    """Computes the statistics of one task.

    Args:
      env_id: environment id of the task.
      returns: undiscounted, unclipped returns of full games, one per episode; at least one.
      lengths: lengths of the same episodes in agent steps.

    Returns:
      A dict with `mean`, `median`, `std` (sample standard deviation, n - 1), `min` and `max` of the returns;
      `mean_ci95`, the 95% confidence interval of the mean (percentile bootstrap), None for a single episode, which has
      none; `mean_length`; and `human_normalised`, the score of the mean as a fraction, None if the task has no
      reference scores.
    """
    values = np.asarray(returns, np.float64)
    return {
        "mean": float(values.mean()),
        "mean_ci95": _interval_of_mean(values),
        "median": float(np.median(values)),
        "std": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
        "min": float(values.min()),
        "max": float(values.max()),
        "mean_length": float(np.mean(lengths)),
        "human_normalised": suites.human_normalised(env_id, float(values.mean())),
    }


def difference(returns: Sequence[float], others: Sequence[float]) -> dict[str, Any]:
    """Compares the returns of two players over the same episodes, which have the same seeds.

    Args:
      returns: of one player, one per episode; at least one.
      others: of the other player, in the same order.

    Returns:
      A dict with `mean`, the mean of returns - others, and `mean_ci95`, its 95% confidence interval (percentile
      bootstrap over pairs of episodes), None for a single episode.
    """
    values = np.asarray(returns, np.float64) - np.asarray(others, np.float64)
    return {"mean": float(values.mean()), "mean_ci95": _interval_of_mean(values)}


def of_suite(suite: str, returns: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Computes a suite's aggregate scores as fractions, each with a 95% interval from resampling every task's episodes.

    The intervals are None if a task has a single episode.

    The main score of Atari-57 is `human_normalised_median` (Table 4), that of DMLab-30 is
    `human_normalised_mean_capped` (Table 3).

    Args:
      suite: one of `suites.SUITES`.
      returns: {env_id: returns} of all tasks of the suite.
    """
    means = {env_id: _resampled_means(values, stream) for stream, (env_id, values) in enumerate(returns.items())}
    scores: dict[str, Any] = {"name": suite, "references": suites.references(suite)[0]}
    for name, aggregate in (
        ("human_normalised_median", suites.median_human_normalised),
        ("human_normalised_mean", suites.mean_human_normalised),
        ("human_normalised_mean_capped", suites.mean_capped_human_normalised),
    ):
        scores[name] = aggregate(suite, {env_id: float(np.mean(values)) for env_id, values in returns.items()})
        if any(len(values) < 2 for values in returns.values()):
            scores[f"{name}_ci95"] = None
            continue
        resampled = [aggregate(suite, {env_id: float(m[i]) for env_id, m in means.items()}) for i in range(_RESAMPLES)]
        scores[f"{name}_ci95"] = _interval(resampled)
    return scores


def _interval_of_mean(values: np.ndarray) -> list[float] | None:
    return _interval(_resampled_means(values)) if len(values) > 1 else None


def _resampled_means(values: Sequence[float] | np.ndarray, stream: int = 0) -> np.ndarray:
    """Returns the means of bootstrap resamples, float64 [_RESAMPLES], the same for the same values and stream."""
    chosen = np.random.default_rng(stream).integers(len(values), size=(_RESAMPLES, len(values)))
    return np.asarray(values, np.float64)[chosen].mean(axis=1)


def _interval(resampled: Sequence[float] | np.ndarray) -> list[float]:
    """Returns the interval [low, high] of the percentile bootstrap."""
    tail = (1 - CONFIDENCE) / 2
    return [float(x) for x in np.quantile(resampled, [tail, 1 - tail])]

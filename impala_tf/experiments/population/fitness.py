"""The fitness of a member: the score of the episodes that ended since its last evaluation."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from impala_tf import suites

Counts = Mapping[str, tuple[int, float]]
"""{task: episodes that have ended, and the sum of their returns}, undiscounted and unclipped."""


def kind(tasks: Sequence[str]) -> str:
    """Names the fitness of these tasks.

    Several tasks with reference scores have the mean of their human-normalized scores, each capped at 1, as DMLab-30
    has in the paper; one task its human-normalized score; tasks without references the mean of their mean returns.
    """
    if any(suites.reference_scores(task) is None for task in tasks):
        return "mean return"
    return "human-normalized score" if len(tasks) == 1 else "mean capped human-normalized score"


def counts(state: Mapping[str, Any], tasks: Sequence[str]) -> Counts:
    """Returns the counts of all episodes so far from the state saved with a checkpoint (`Progress.state`)."""
    by_task = state["tasks"] if len(tasks) > 1 else {tasks[0]: state}
    return {task: (by_task[task]["episodes"], by_task[task]["return_sum"]) for task in tasks}


def fitness(before: Counts, now: Counts) -> float | None:
    """Returns the fitness over the episodes between two counts; None if there were none of some task."""
    if any(now[task][0] == before[task][0] for task in now):
        return None
    returns = {task: (now[task][1] - before[task][1]) / (now[task][0] - before[task][0]) for task in now}
    if kind(list(now)) == "mean return":
        return statistics.fmean(returns.values())
    scores = [float(suites.human_normalised(task, mean) or 0.0) for task, mean in returns.items()]
    return scores[0] if len(scores) == 1 else statistics.fmean(min(1.0, score) for score in scores)

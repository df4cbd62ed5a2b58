"""The paper's two suites of tasks, Atari-57 and DMLab-30, and their human-normalized scores.

`atari57.json` and `dmlab30.json` hold the tasks, the scores of a random player and of a human, and the source of every
number. Several sets of reference scores are in use, and the choice matters (the 957.6% of Table 4 is 1592.5% with
another set), so every function takes the name of a set. A suite's default is the set with which the paper's own tables
appear to have been computed (`tests/suites/test_paper_tables.py`), because reproductions are compared with them. Scores
are fractions here, 0 for a random player and 1 for a human; the paper prints percentages.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import math
import statistics
from collections.abc import Mapping
from typing import Any

from impala_tf.errors import UserError

SUITES = ("atari57", "dmlab30")


def env_ids(suite: str, *, test: bool = False) -> tuple[str, ...]:
    """Returns the environment ids of a suite's tasks, in the suite's order.

    Args:
      suite: one of `SUITES`.
      test: whether to return the ids to evaluate on instead of those to train on. They differ for two levels of
        DMLab-30; the order is the same.

    Raises:
      UserError: the suite is unknown.
    """
    return tuple(task.get("test", task["id"]) if test else task["id"] for task in _read(suite)["tasks"])


def references(suite: str) -> tuple[str, ...]:
    """Returns the names of a suite's sets of reference scores, the default one first.

    Raises:
      UserError: the suite is unknown.
    """
    data = _read(suite)
    return tuple(sorted(data["references"], key=lambda name: name != data["default_references"]))


def human_normalised(env_id: str, mean_return: float, references: str | None = None) -> float | None:
    """Returns the human-normalized score (s - r) / (h - r) of one task (Table G.1).

    Args:
      env_id: task to train on or to evaluate on; both use the test level's references.
      mean_return: s, the mean undiscounted and unclipped return of full games.
      references: the set of reference scores for r (random player) and h (human), one of `references(suite)`; None for
        the suite's default.

    Returns:
      A fraction, neither capped nor bounded below; None if the environment is in no suite.

    Raises:
      UserError: the task's suite has no such set of references.
    """
    scores = reference_scores(env_id, references)
    return None if scores is None else (mean_return - scores[0]) / (scores[1] - scores[0])


def reference_scores(env_id: str, references: str | None = None) -> tuple[float, float] | None:
    """Returns the mean returns (r, h) of a random player and a human; arguments and errors as in `human_normalised`.

    None if the environment is in no suite.
    """
    for suite in SUITES:
        if env_id in (known := _reference_scores(suite)):
            return known[env_id][_chosen(suite, references)]
    return None


def median_human_normalised(suite: str, returns: Mapping[str, float], references: str | None = None) -> float:
    """Returns the median score over a suite's tasks, the main score of Atari-57 (section 5.3.2, Table 4).

    Args:
      suite: one of `SUITES`.
      returns: mean undiscounted return by environment id, for every task of the suite: either all tasks to train on or
        all tasks to evaluate on (see `env_ids`).
      references: as in `human_normalised`.

    Returns:
      A fraction, 1 for a human.

    Raises:
      UserError: the suite or the references are unknown, a task of the suite has no finite mean return, or an id is not
        one of the suite's tasks.
    """
    return statistics.median(_normalised(suite, returns, references))


def mean_human_normalised(suite: str, returns: Mapping[str, float], references: str | None = None) -> float:
    """Returns the mean score over a suite's tasks (Table 4); arguments and errors as in `median_human_normalised`."""
    return statistics.fmean(_normalised(suite, returns, references))


def mean_capped_human_normalised(suite: str, returns: Mapping[str, float], references: str | None = None) -> float:
    """Returns sum_t min(1, (s_t - r_t) / (h_t - r_t)) / N, the score of DMLab-30 and the fitness in populations.

    The cap keeps tasks in which agents far exceed humans from dominating the mean. Scores are not bounded below
    (section 5.3.1, Table B.1, Table G.1). Arguments and errors as in `median_human_normalised`.
    """
    return statistics.fmean(min(1.0, score) for score in _normalised(suite, returns, references))


def _normalised(suite: str, returns: Mapping[str, float], references: str | None) -> list[float]:
    """Returns the scores of all tasks of the suite, in its order."""
    train, test = env_ids(suite), env_ids(suite, test=True)
    to_evaluate = not set(test).isdisjoint(set(returns) - set(train))
    ids = test if to_evaluate else train
    if unknown := sorted(set(returns) - set(ids)):
        raise UserError(f"{', '.join(unknown)}: not a task of {suite} to {'evaluate' if to_evaluate else 'train'} on.")
    if missing := [env_id for env_id in ids if not math.isfinite(returns.get(env_id, math.nan))]:
        raise UserError(
            f"A score of {suite} needs a mean return for all {len(ids)} tasks; missing: {', '.join(missing)}."
        )
    known, chosen = _reference_scores(suite), _chosen(suite, references)
    return [
        (returns[env_id] - random) / (human - random) for env_id in ids for random, human in [known[env_id][chosen]]
    ]


def _chosen(suite: str, references_: str | None) -> str:
    known = references(suite)
    if references_ not in (None, *known):
        raise UserError(f"Unknown reference scores {references_!r} of {suite}: choose one of {', '.join(known)}.")
    return references_ or known[0]


@functools.cache
def _reference_scores(suite: str) -> dict[str, dict[str, tuple[float, float]]]:
    """Returns {task to train or to evaluate on: {set of references: (random, human)}}."""
    scores = {}
    for task in _read(suite)["tasks"]:
        by_set = {name: (task[name]["random"], task[name]["human"]) for name in references(suite)}
        scores[task["id"]] = scores[task.get("test", task["id"])] = by_set
    return scores


@functools.cache
def _read(suite: str) -> dict[str, Any]:
    if suite not in SUITES:
        raise UserError(f"Unknown suite {suite!r}: choose one of {', '.join(SUITES)}.")
    return json.loads(importlib.resources.files(__name__).joinpath(f"{suite}.json").read_text())

"""The paper's two suites of tasks, Atari-57 and DMLab-30, and their human normalised scores.

The tasks and what a random player and a human score in them are in `atari57.json` and `dmlab30.json`, each number with
its source. There is no one set of reference scores, and the choice matters (Table 4's 957.6% is 1592.5% with another):
every function takes the name of a set. A suite's default is the set that the paper's own tables were computed with, as
far as can be told from their rows (`tests/suites/test_paper_tables.py`): whoever reproduces the paper compares with
them. Scores are fractions here, 1 for a human and 0 for a random player; the paper prints percent.
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


def tasks(suite: str, *, test: bool = False) -> tuple[str, ...]:
    """The environment ids of a suite's tasks, in the suite's order.

    Args:
      suite: one of `SUITES`.
      test: the ids to evaluate on instead of those to train on. Two levels of DMLab-30 have different ones; the order
        is the same.

    Raises:
      UserError: unknown suite.
    """
    return tuple(task.get("test", task["id"]) if test else task["id"] for task in _read(suite)["tasks"])


def references(suite: str) -> tuple[str, ...]:
    """The names of a suite's sets of reference scores, the default one first.

    Raises:
      UserError: unknown suite.
    """
    data = _read(suite)
    return tuple(sorted(data["references"], key=lambda name: name != data["default_references"]))


def human_normalised(env_id: str, mean_return: float, references: str | None = None) -> float | None:
    """(s - r) / (h - r): a score s between what a random player (r) and a human (h) reach (Table G.1).

    Args:
      env_id: a task to train on or to evaluate on; the two kinds have the same references, the test level's.
      mean_return: s, mean undiscounted and unclipped return of full games.
      references: one of `references(suite)`; None for the suite's default.

    Returns:
      A fraction, neither capped nor bounded below; None for an environment that is in no suite.

    Raises:
      UserError: the task's suite has no such set of references.
    """
    for suite in SUITES:
        if env_id in (known := _reference_scores(suite)):
            random, human = known[env_id][_chosen(suite, references)]
            return (mean_return - random) / (human - random)
    return None


def median_human_normalised(suite: str, returns: Mapping[str, float], references: str | None = None) -> float:
    """The median over a suite's tasks, Atari-57's main score (section 5.3.2, Table 4).

    Args:
      suite: one of `SUITES`.
      returns: mean undiscounted return by environment id, of every task of the suite: either those to train on or those
        to evaluate on (see `tasks`).
      references: as in `human_normalised`.

    Returns:
      A fraction, 1 for a human.

    Raises:
      UserError: unknown suite or references; a task of the suite without a finite mean return; an id that is none of
        its tasks.
    """
    return statistics.median(_normalised(suite, returns, references))


def mean_human_normalised(suite: str, returns: Mapping[str, float], references: str | None = None) -> float:
    """The mean over a suite's tasks (Table 4). Arguments, result and errors as `median_human_normalised`."""
    return statistics.fmean(_normalised(suite, returns, references))


def mean_capped_human_normalised(suite: str, returns: Mapping[str, float], references: str | None = None) -> float:
    """sum_t min(1, (s_t - r_t) / (h_t - r_t)) / N, DMLab-30's score and the fitness of populations.

    The cap keeps a task in which agents far exceed humans from outweighing others; nothing bounds a task's score from
    below (section 5.3.1, Table B.1, Table G.1). Arguments, result and errors as `median_human_normalised`.
    """
    return statistics.fmean(min(1.0, score) for score in _normalised(suite, returns, references))


def _normalised(suite: str, returns: Mapping[str, float], references: str | None) -> list[float]:
    """The scores of all tasks of the suite, in its order."""
    train, test = tasks(suite), tasks(suite, test=True)
    to_evaluate = not set(test).isdisjoint(set(returns) - set(train))
    ids = test if to_evaluate else train
    if unknown := sorted(set(returns) - set(ids)):
        raise UserError(f"{', '.join(unknown)}: not a task of {suite} to {'evaluate' if to_evaluate else 'train'} on.")
    if missing := [env_id for env_id in ids if not math.isfinite(returns.get(env_id, math.nan))]:
        raise UserError(
            f"A score of {suite} needs a mean return of all {len(ids)} tasks; none of {', '.join(missing)}."
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
    """{task to train or to evaluate on: {set of references: (random, human)}}."""
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

"""The result of an evaluation: what its JSON file holds."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from impala_tf import __version__, suites
from impala_tf.errors import UserError
from impala_tf.evaluation import scores
from impala_tf.evaluation.protocols import EvaluationProtocol
from impala_tf.evaluation.record import AGENT, RANDOM, Record, as_json, differences


def header(
    saved_model: str,
    model: Mapping[str, Any],
    digest: str,
    env: str,
    protocols: Sequence[EvaluationProtocol],
    *,
    greedy: bool,
    seed: int,
    random_policy: bool,
) -> dict[str, Any]:
    """Returns the first part of the result: which policy is evaluated, and how.

    Args:
      saved_model: folder of the SavedModel.
      model: its metadata.
      digest: identifies its parameters, wherever it lies.
      env, greedy, seed, random_policy: as in `Evaluation`.
      protocols: of the tasks.
    """
    return {
        "saved_model": saved_model,
        "model": {**{key: model.get(key) for key in ("tasks", "frames", "learner_step", "versions")}, "digest": digest},
        "env": env,
        "policy": "greedy" if greedy else "sampled",
        "seed": seed,
        "random_policy": random_policy,
        "protocol": {task.env_id: {"episodes": task.episodes, **task.options} for task in protocols},
        "impala_tf": __version__,
    }


def results(env: str, protocols: Sequence[EvaluationProtocol], record: Record, random_policy: bool) -> dict[str, Any]:
    """Returns the second part of the result: statistics and episodes by task and, for a whole suite, its scores.

    Args:
      env: as in `Evaluation`.
      protocols: of the tasks that were played to the end; not all if some failed.
      record: has all of their episodes.
      random_policy: whether it has those of the random policy, too.
    """
    by_task, returns = {}, {}
    for task in protocols:
        by_task[task.env_id], returns[task.env_id] = _played(task, record, AGENT)
        if random_policy:
            by_random, its_returns = _played(task, record, RANDOM)
            by_task[task.env_id]["random_policy"] = by_random
            by_task[task.env_id]["over_random_policy"] = scores.difference(returns[task.env_id], its_returns)
    if env in suites.SUITES and len(protocols) == len(suites.env_ids(env)):
        return {"suite": scores.of_suite(env, returns), "tasks": by_task}
    return {"tasks": by_task}


def _played(task: EvaluationProtocol, record: Record, player: str) -> tuple[dict[str, Any], list[float]]:
    """Returns a player's statistics with its episodes, and its returns."""
    played = [record.episodes(task.env_id, player)[number] for number in range(task.episodes)]
    returns = [episode.episode_return for episode in played]
    found = scores.of_task(task.env_id, returns, [episode.length for episode in played])
    return {**found, "episodes": [as_json(episode) for episode in played]}, returns


def read(output: pathlib.Path, expected: Mapping[str, Any]) -> dict[str, Any] | None:
    """Reads the result of an evaluation.

    Args:
      output: its file.
      expected: its header.

    Returns:
      The content of the file, or None if there is none.

    Raises:
      UserError: the file holds something else.
    """
    try:
        found = json.loads(output.read_text())
        if not isinstance(found, dict):
            raise ValueError
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        raise UserError(
            f"{output} exists already and is no result of an evaluation: give another --output, or remove it first."
        ) from None
    if changed := differences(found, expected):
        raise UserError(
            f"{output} exists already, from another evaluation (different {changed}): give another --output, or "
            "remove it first."
        )
    return found

"""The result of an evaluation in a few aligned lines, for the console."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from impala_tf import suites

_WIDTH = 30


def lines(found: Mapping[str, Any], files: Iterable[tuple[str, Any]]) -> list[str]:
    """Returns the lines.

    Args:
      found: content of the result's file.
      files: (what it is, path) of the files to name.
    """
    rows: list[tuple[str, str]] = []
    one = len(found["protocol"]) == 1
    for name, task in found["tasks"].items():
        played = len(task["episodes"])
        if one:
            rows.append((name, f"{played} episode{'s' * (played > 1)}, {found['policy']} actions"))
        rows.append(("  agent" if one else name, _statistics(task)))
        if "random_policy" in task:
            rows.append(("  random policy", _statistics(task["random_policy"])))
            over = task["over_random_policy"]
            rows.append(("  difference", f"{over['mean']:+.2f}{_interval(over['mean_ci95'], '{:+.2f}')}"))
        if task["human_normalised"] is not None:
            rows.append(("  human-normalized score", f"{task['human_normalised']:.1%}{_references(name)}"))
    for name, score in found.get("suite", {}).items():
        if isinstance(score, float):
            label = name.replace("human_normalised_", "human-normalized ").replace("_", " ")
            rows.append((label, f"{score:.1%}{_interval(found['suite'][f'{name}_ci95'], '{:.1%}')}"))
    for name in found.get("failed", {}):
        rows.append((name, "FAILED; not in the result"))
    if found.get("failed") and found["env"] in suites.SUITES:
        rows.append((found["env"], "no score, as tasks are missing"))
    rows += [(what, str(path)) for what, path in files]
    return [f"  {label:<{_WIDTH}} {text}" for label, text in rows]


def _statistics(task: Mapping[str, Any]) -> str:
    text = f"mean return {task['mean']:.2f}{_interval(task['mean_ci95'], '{:.2f}')}"
    return text if task["mean_ci95"] is None else f"{text}, median {task['median']:.2f}"


def _interval(interval: list[float] | None, form: str) -> str:
    if interval is None:
        return " (a single episode: no confidence interval)"
    low, high = (form.format(end) for end in interval)
    return f" (95% CI {low} to {high})"


def _references(env_id: str) -> str:
    """Returns the scores that a human-normalized score compares with, for display."""
    scores = suites.reference_scores(env_id)
    return f" (0% is a random player's {scores[0]:g}, 100% a human's {scores[1]:g})" if scores else ""

"""The tasks of a run: what `--env` names, one environment id or many."""

from __future__ import annotations

from impala_tf import suites
from impala_tf.errors import UserError


def names(env: str, *, test: bool = False) -> tuple[str, ...]:
    """Environment ids of the run's tasks; a task's id in the trajectories is its place among them.

    Args:
      env: an environment id, a suite ("atari57", "dmlab30"), or several of them separated by commas.
      test: a suite's tasks are those to evaluate on instead of those to train on.

    Raises:
      UserError: nothing stands between two commas, or a task is named twice.
    """
    found: list[str] = []
    for part in env.split(","):
        name = part.strip()
        if not name:
            raise UserError(f"--env={env!r} names no environment" + (" between two commas." if "," in env else "."))
        found.extend(suites.tasks(name, test=test) if name in suites.SUITES else [name])
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise UserError(f"--env={env} names {', '.join(twice)} more than once.")
    return tuple(found)

"""The tasks that `--env` names: one environment id, several, or a suite."""

from __future__ import annotations

from impala_tf import suites
from impala_tf.errors import UserError


def names(env: str, *, test: bool = False) -> tuple[str, ...]:
    """Returns the environment ids of a run's tasks; a task's index is its id in the trajectories.

    Args:
      env: environment ids and suites ("atari57", "dmlab30"), separated by commas.
      test: whether suites stand for the tasks to evaluate on instead of those to train on.

    Raises:
      UserError: a name is empty, or a task is named twice.
    """
    found: list[str] = []
    for part in env.split(","):
        name = part.strip()
        if not name:
            raise UserError(f"--env={env!r} names no environment" + (" between two commas." if "," in env else "."))
        found.extend(suites.env_ids(name, test=test) if name in suites.SUITES else [name])
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise UserError(f"--env={env} names {', '.join(twice)} more than once.")
    return tuple(found)

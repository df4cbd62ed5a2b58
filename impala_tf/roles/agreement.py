"""What a learner and its actors must agree on: the learner tells it, and an actor that differs is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

from impala_tf import config as config_lib
from impala_tf.config import Config
from impala_tf.environments.task_set import TaskSet
from impala_tf.errors import UserError
from impala_tf.topology import Topology

_SHAPING_NETWORK = ("torso", "core")
_SHAPING_DATA = ("unroll_length",)


def told(config: Config, tasks: TaskSet, topology: Topology) -> dict[str, Any]:
    """What the learner tells actors: tasks in their order, the settings that must be the same, and the topology."""
    return {"tasks": list(tasks.names), "settings": _shared_settings(config), "topology": topology.told()}


def check(learner: dict[str, Any], config: Config, tasks: TaskSet, address: str) -> None:
    """Compares an actor's settings with what its learner told.

    Args:
      learner: `told` of the learner.
      config: of the actor.
      tasks: of the actor.
      address: of the learner, for the message.

    Raises:
      UserError: they differ; names the differences.
    """
    lines = []
    theirs, ours = learner["tasks"], list(tasks.names)
    if theirs != ours:
        lines.append(f"--env: {','.join(theirs)} at the learner, {','.join(ours)} here")
    settings = learner["settings"]
    for name, value in _shared_settings(config).items():
        # An option of Atari games, say, makes no difference to other environments, but is easily set alike.
        if settings.get(name, value) != value:
            lines.append(f"--{name}: {settings[name]} at the learner, {value} here")
    if lines:
        raise UserError(
            f"This actor does not fit the learner at {address}: {'; '.join(lines)}. Start it with the learner's "
            "settings."
        )


def _shared_settings(config: Config) -> dict[str, Any]:
    fixed = {
        name: getattr(config.environment, name)
        for name in (field.name for field in dataclasses.fields(config.environment))
        if name != "env" and name in config_lib.FIXED
    }
    network = {name: getattr(config.network, name) for name in _SHAPING_NETWORK}
    return {**fixed, **network, **{name: getattr(config.data, name) for name in _SHAPING_DATA}}

"""What a learner and its actors must agree on; an actor that differs from its learner is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

from impala_tf import config as config_lib
from impala_tf.config import Config
from impala_tf.environments.task_set import TaskSet
from impala_tf.errors import UserError
from impala_tf.topology import Topology


def told(config: Config, tasks: TaskSet, topology: Topology) -> dict[str, Any]:
    """Returns what the learner tells actors: its tasks in order, the settings that must be equal, and its topology."""
    return {"tasks": list(tasks.names), "settings": _shared_settings(config), "topology": topology.told()}


def check(learner: dict[str, Any], config: Config, tasks: TaskSet, address: str) -> None:
    """Compares an actor's tasks and settings with its learner's.

    Args:
      learner: what the learner tells, from `told`.
      config: the actor's settings.
      tasks: the actor's tasks.
      address: address of the learner's server, for the message.

    Raises:
      UserError: they differ; names every difference.
    """
    theirs = {"env": ",".join(learner["tasks"]), **learner["settings"]}
    ours = {"env": ",".join(tasks.names), **_shared_settings(config)}
    if theirs.get("architecture") != ours["architecture"]:  # Then they share other settings, too.
        theirs, ours = ({"architecture": settings.get("architecture")} for settings in (theirs, ours))
    differences = [
        f"--{name}: {theirs.get(name)} at the learner, {value} here"
        for name, value in ours.items()
        if theirs.get(name) != value
    ]
    if differences:
        raise UserError(
            f"This actor does not fit the learner at {address}: {'; '.join(differences)}. Start it with the learner's "
            "settings."
        )


def _shared_settings(config: Config) -> dict[str, Any]:
    """Returns the settings that change what an actor plays, its network's shape, an unroll's shape, or who waits.

    In A3C, where actors compute the gradients, also those that change the gradient. Options of other environments are
    among them: they make no difference, but are easily set alike.
    """
    network, data, architecture = config.network, config.data, config.launch.architecture
    shared = {
        **_fixed(config.environment),
        "torso": network.torso,
        "core": network.core,
        "unroll_length": data.unroll_length,
        "policy_lag": data.policy_lag,
        "architecture": architecture,
    }
    return {**shared, **_fixed(network), **_fixed(config.loss)} if architecture == "a3c" else shared


def _fixed(group: Any) -> dict[str, Any]:
    """Returns a group's settings that shape what is learned, without `env`."""
    values = dataclasses.asdict(group).items()
    return {name: value for name, value in values if name != "env" and name in config_lib.FIXED}

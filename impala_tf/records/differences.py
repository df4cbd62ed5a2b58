"""Which settings tell one run from another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from impala_tf import config as config_lib
from impala_tf.records.logdir import OF_ONE_PROCESS

_WITHOUT_EFFECT = frozenset(
    (
        *OF_ONE_PROCESS,
        *("checkpoint_interval", "checkpoints_kept", "export_every", "evaluate_every"),
        *("evaluate_episodes", "evaluate_video"),
        *("log_interval", "connect_timeout", "stall_timeout", "env_deadline", "dmlab_level_cache", "relay"),
    )
)
"""What a run writes, where its processes are, and how long they wait."""

DEFAULTS = config_lib.to_values(config_lib.Config())


def compared(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings in which runs can be compared, in the order of --help.

    Left out is what has an effect neither on learning nor on speed. total_frames has one only where the learning rate's
    schedule ends with it.

    Args:
      settings: of a run, from `LogDir.read_settings`; those that are missing there, because an earlier version had no
        such setting, have their defaults.
    """
    known = {**DEFAULTS, **settings}
    without = _WITHOUT_EFFECT | ({"total_frames"} if known["annealing_frames"] else set())
    return {name: value for name, value in known.items() if name not in without}


def from_defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a run that are not the defaults, but for the run's folder."""
    return {n: value for n, value in settings.items() if n != "logdir" and (n not in DEFAULTS or value != DEFAULTS[n])}

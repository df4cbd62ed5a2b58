"""Environment specs as JSON: a run's checkpoints hold its spec, so that exporting needs no environment."""

from __future__ import annotations

from typing import Any

import numpy as np

from impala_tf.export.saved_model import describe
from impala_tf.structures import ArraySpec, EnvironmentSpec


def as_json(spec: EnvironmentSpec) -> dict[str, Any]:
    """Returns the JSON form of a spec."""
    return {**spec._asdict(), "observation": describe(spec.observation), "action_names": list(spec.action_names)}


def from_json(value: dict[str, Any]) -> EnvironmentSpec:
    """Returns the spec with a JSON form; raises KeyError, TypeError or AttributeError if `value` is none."""
    observation = value["observation"]
    if "shape" in observation:
        seen: Any = _array(observation)
    else:
        seen = {name: _array(array) for name, array in observation.items()}
    return EnvironmentSpec(**{**value, "observation": seen, "action_names": tuple(value["action_names"])})


def _array(value: dict[str, Any]) -> ArraySpec:
    return ArraySpec(tuple(value["shape"]), np.dtype(value["dtype"]))

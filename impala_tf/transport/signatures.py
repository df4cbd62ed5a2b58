"""Signatures of Reverb's tables: shapes and dtypes of one unroll and of one set of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from impala_tf.errors import UserError
from impala_tf.structures import EnvironmentSpec, Trajectory, map_spec, trajectory_spec
from impala_tf.transport import frame_stacks


def trajectory_signature(environment: EnvironmentSpec, core_state: Any, unroll_length: int) -> Trajectory:
    """Returns the signature of one unroll: `tf.TensorSpec`s with T + 1 entries and no batch dimension.

    Args:
      environment: spec of the environment.
      core_state: nest of `ArraySpec`s of one environment's core state.
      unroll_length: T, in agent steps.
    """
    spec = trajectory_spec(environment, core_state, unroll_length)
    return Trajectory(*(map_spec(lambda s: tf.TensorSpec(s.shape, tf.as_dtype(s.dtype)), part) for part in spec))


def unroll_signature(environment: EnvironmentSpec, core_state: Any, unroll_length: int) -> Trajectory:
    """Returns the signature of one unroll as it is sent: `trajectory_signature` with packed stacks.

    On the wire and in the table, its fields are one row of bytes: `rows.signature`.
    """
    signature = trajectory_signature(environment, core_state, unroll_length)
    return frame_stacks.packed_signature(signature) if environment.frame_stack else signature


def variables_signature(variables: Sequence[tf.Variable]) -> dict[str, Any]:
    """Returns the signature of one set of parameters: all variables, in order, and the learner step that made them."""
    return {
        "learner_step": tf.TensorSpec((), tf.int64),
        "variables": [tf.TensorSpec(v.shape, v.dtype) for v in variables],
    }


def check_same(what: str, theirs: Any, ours: Any) -> None:
    """Compares a table's signature on the learner's server with the one that this actor uses.

    Args:
      what: what the table holds, in the plural, for the message.
      theirs: signature on the server.
      ours: signature of this actor.

    Raises:
      UserError: they differ; names the first three fields.
    """
    theirs, ours = _describe(theirs), _describe(ours)
    if theirs != ours:
        lines = [
            f"{name or 'an item'}: {theirs.get(name, 'nothing')} at the learner, {ours.get(name, 'nothing')} here"
            for name in sorted(theirs.keys() | ours.keys())
            if theirs.get(name) != ours.get(name)
        ]
        more = f" (and {len(lines) - 3} more)" if len(lines) > 3 else ""
        raise UserError(
            f"This actor's {what} do not match the learner's: {'; '.join(lines[:3])}{more}. Start both with the same "
            "version of impala_tf and the same settings."
        )


def _describe(signature: Any) -> dict[str, str]:
    """Returns {path: "dtype shape"}, which does not depend on the nest's types; the wire turns some into others."""
    if hasattr(signature, "_asdict"):
        signature = signature._asdict()
    if isinstance(signature, dict):
        items = list(signature.items())
    elif isinstance(signature, (list, tuple)):
        items = list(enumerate(signature))
    else:
        return {"": f"{signature.dtype.name} {list(signature.shape)}"}
    return {f"{key}.{sub}".rstrip("."): text for key, value in items for sub, text in _describe(value).items()}

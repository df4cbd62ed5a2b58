"""Table signatures: what one unroll and one set of parameters look like, derived from the environment's spec."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from impala_tf.errors import UserError
from impala_tf.structures import EnvironmentSpec, Trajectory, map_spec, trajectory_spec
from impala_tf.transport import frame_stacks


def trajectory_signature(environment: EnvironmentSpec, core_state: Any, unroll_length: int) -> Trajectory:
    """Signature of one unroll: a `Trajectory` of `tf.TensorSpec`s with T + 1 entries, without batch dimension.

    Args:
      environment: spec of the environment that fills it.
      core_state: nest of `ArraySpec`s of one environment's core state.
      unroll_length: T, in agent steps.
    """
    spec = trajectory_spec(environment, core_state, unroll_length)
    return Trajectory(*(map_spec(lambda s: tf.TensorSpec(s.shape, tf.as_dtype(s.dtype)), part) for part in spec))


def unroll_signature(environment: EnvironmentSpec, core_state: Any, unroll_length: int) -> Trajectory:
    """Signature of one unroll on the wire and in the table: `trajectory_signature`'s, with stacks of frames packed."""
    signature = trajectory_signature(environment, core_state, unroll_length)
    return frame_stacks.packed_signature(signature) if environment.frame_stack else signature


def variables_signature(variables: Sequence[tf.Variable]) -> dict[str, Any]:
    """Signature of one set of parameters: every variable, in order, and the learner step that made them."""
    return {
        "learner_step": tf.TensorSpec((), tf.int64),
        "variables": [tf.TensorSpec(v.shape, v.dtype) for v in variables],
    }


def check_same(what: str, theirs: Any, ours: Any) -> None:
    """Compares a table's signature on the learner's server with the one that this process would use.

    Raises:
      UserError: naming the first fields that differ.
    """
    theirs, ours = _describe(theirs), _describe(ours)
    if theirs != ours:
        lines = [
            f"{name}: {theirs.get(name, 'nothing')} at the learner, {ours.get(name, 'nothing')} here"
            for name in sorted(theirs.keys() | ours.keys())
            if theirs.get(name) != ours.get(name)
        ]
        more = f" (and {len(lines) - 3} more)" if len(lines) > 3 else ""
        raise UserError(
            f"This actor's {what} do not match the learner's: {'; '.join(lines[:3])}{more}. Start both with the same "
            "version of impala_tf and the same settings."
        )


def _describe(signature: Any) -> dict[str, str]:
    """{path: "dtype shape"}, the same for equal signatures whatever types their nests went through on the wire."""
    if hasattr(signature, "_asdict"):
        signature = signature._asdict()
    if isinstance(signature, dict):
        items = list(signature.items())
    elif isinstance(signature, (list, tuple)):
        items = list(enumerate(signature))
    else:
        return {"": f"{signature.dtype.name} {list(signature.shape)}"}
    return {f"{key}.{sub}".rstrip("."): text for key, value in items for sub, text in _describe(value).items()}

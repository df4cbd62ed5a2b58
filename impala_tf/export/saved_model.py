"""Agents as SavedModels: the format, and a loaded policy. `exporter` writes them.

An agent's SavedModel loads with plain `tf.saved_model.load`, without this package, on any device. It has two
signatures, which take and return tensors by name:

- `initial_state`: `batch_size`, int32 scalar B -> `core_state_0`, `core_state_1`, ..., float32 [B, ...]: the core state
  at the start of an episode. No outputs for an agent without a recurrent core.
- `step`, for any B: `observation` (or `observation_image` and `observation_instruction`) [B, ...], `last_action` int32
  [B], `last_reward` float32 [B] (unclipped), `episode_start` bool [B] (resets the core state before the step), and the
  core state -> `action` int32 [B], sampled from the softmax of `logits` float32 [B, A], `greedy_action` int32 [B],
  `value` float32 [B], and the next core state. Before the first step, last action and last reward are 0.

`assets.extra/impala_tf.json` (`METADATA`) describes the tasks that the agent was trained on, the preprocessing of the
observations, and the actions.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

from impala_tf import programs, tensor_leak
from impala_tf.errors import UserError, one_line
from impala_tf.structures import AgentInput, EnvironmentSpec, map_spec

METADATA = os.path.join("assets.extra", "impala_tf.json")

_NEEDED = {"tasks", "observation", "num_actions", "action_names", "environment_options", "settings"}


def observation_names(observation: Any) -> dict[str, Any]:
    """Returns an observation's arrays, or their specs, by their names in a signature."""
    if isinstance(observation, dict):
        return {f"observation_{key}": value for key, value in observation.items()}
    return {"observation": observation}


def core_state_names(core_state_spec: Any) -> dict[str, Any]:
    """Returns the core state's `ArraySpec`s by their names in a signature."""
    leaves: list[Any] = []
    map_spec(leaves.append, core_state_spec)
    return {f"core_state_{i}": leaf for i, leaf in enumerate(leaves)}


def describe(observation: Any) -> Any:
    """Returns the JSON form of an observation's `ArraySpec`s."""
    return map_spec(lambda array: {"shape": list(array.shape), "dtype": np.dtype(array.dtype).name}, observation)


class Damaged(UserError):
    """A SavedModel cannot be read; the same agent can be exported again."""


class Step(NamedTuple):
    """A policy's outputs for B inputs.

    Attributes:
      logits: float32 [B, A].
      value: float32 [B].
      core_state: {name: float32 [B, ...]}, after the step.
    """

    logits: np.ndarray
    value: np.ndarray
    core_state: dict[str, np.ndarray]


class SavedPolicy:
    """A policy loaded from a SavedModel.

    Attributes:
      path: the SavedModel's folder.
      metadata: the content of `METADATA`.
    """

    def __init__(self, path: str):
        """Loads the SavedModel in the folder `path`; imports TensorFlow.

        Raises:
          Damaged: it cannot be read.
          UserError: there is no SavedModel, or it is not an agent of this package.
        """
        self.path = pathlib.Path(path)
        self.metadata = read_metadata(self.path)
        import tensorflow as tf

        tensor_leak.stop()
        self._to_tensor = tf.convert_to_tensor
        try:
            # Keep the whole object: the signatures do not keep the variables alive.
            self._loaded = tf.saved_model.load(path)
            self._initial_state, self._step = (self._loaded.signatures[n] for n in ("initial_state", "step"))
        except Exception as error:  # A damaged file can raise almost anything.
            raise Damaged(
                f"--saved_model={path} is damaged and cannot be loaded ({one_line(error)[:200]}). Export it again."
            ) from None

    def initial_state(self, batch_size: int) -> dict[str, np.ndarray]:
        """Returns the core state at the start of an episode, {name: float32 [B, ...]}."""
        state = self._initial_state(batch_size=self._to_tensor(batch_size))
        return {name: state[name].numpy() for name in sorted(state)}

    def step(self, inputs: AgentInput, core_state: dict[str, np.ndarray]) -> Step:
        """Runs the policy on a batch of inputs.

        Args:
          inputs: arrays [B, ...].
          core_state: from `initial_state` or the previous `Step`.

        Raises:
          UserError: the logits are not finite, so no action can be chosen.
        """
        given = {
            **observation_names(inputs.observation),
            "last_action": inputs.last_action,
            "last_reward": inputs.last_reward,
            "episode_start": inputs.episode_start,
            **core_state,
        }
        answer = self._step(**{name: self._to_tensor(array) for name, array in given.items()})
        logits = answer["logits"].numpy()
        if not np.isfinite(logits).all():
            raise UserError(f"The policy of --saved_model={self.path} is not finite (NaN or infinite): it diverged.")
        return Step(logits, answer["value"].numpy(), {name: answer[name].numpy() for name in core_state})


def read_metadata(path: pathlib.Path) -> dict[str, Any]:
    """Reads `METADATA` from the SavedModel in the folder `path`. Does not import TensorFlow.

    Raises:
      UserError: there is no SavedModel, or it is not an agent of this package; `Damaged` if it may have been one.
    """
    if not (path / "saved_model.pb").is_file():
        raise UserError(
            f"--saved_model={path}: there is no SavedModel (no saved_model.pb). "
            f"{programs.line('impala-export')} writes one."
        )
    try:
        metadata = json.loads((path / METADATA).read_text())
        if not metadata.keys() >= _NEEDED:
            raise ValueError
    except (OSError, ValueError, AttributeError):
        raise Damaged(
            f"--saved_model={path} is not an agent of impala_tf, or damaged: {METADATA} is missing or cannot be read. "
            f"{programs.line('impala-export')} writes one."
        ) from None
    return metadata


def check_output(output: pathlib.Path) -> None:
    """Raises UserError if `output` exists."""
    if output.exists() or output.is_symlink():
        raise UserError(f"{output} exists already: give another --output, or remove it first.")


def digest(path: pathlib.Path) -> str:
    """Returns a digest of the parameters of the SavedModel in the folder `path`, 16 hexadecimal digits."""
    found = hashlib.sha256()
    for file in sorted((path / "variables").glob("*")):
        found.update(file.read_bytes())
    return found.hexdigest()[:16]


def check(path: pathlib.Path, metadata: dict[str, Any], env_id: str, spec: EnvironmentSpec) -> None:
    """Checks that the policy of a SavedModel can act in an environment. Does not import TensorFlow.

    Args:
      path: the SavedModel's folder.
      metadata: from `read_metadata`.
      env_id: id of the environment.
      spec: spec of the environment.

    Raises:
      UserError: the policy takes other observations or actions than the environment's.
    """

    def refuse(what: str, expected: str, given: str) -> None:
        tasks = ", ".join(metadata["tasks"])
        tasks = tasks if len(tasks) <= 80 else f"{tasks[:77]}..."
        raise UserError(
            f"--saved_model={path} was trained on {tasks} and cannot play {env_id}: its {what} are {expected}, those "
            f"of the environment {given}."
        )

    expected, given = metadata["observation"], describe(spec.observation)
    if expected != given:
        refuse("observations", _short(expected), _short(given))
    names, others = metadata["action_names"], list(spec.action_names)
    if metadata["num_actions"] != spec.num_actions:
        refuse("actions", _listed(metadata["num_actions"], names), _listed(spec.num_actions, others))
    # Tasks that were learned together may have different names for their actions.
    if names and others and names != others and env_id not in metadata["tasks"]:
        refuse("actions", ", ".join(names), ", ".join(others))


def _short(observation: dict[str, Any]) -> str:
    if "shape" in observation:
        return f"{observation['dtype']} {observation['shape']}"
    return ", ".join(f"{key} {_short(part)}" for key, part in observation.items())


def _listed(number: int, names: list[str]) -> str:
    return f"{number} ({', '.join(names)})" if names else str(number)

"""Agents as SavedModels: what is in one, and one that is read. `impala_tf.export` writes them.

A SavedModel of an agent loads with plain `tf.saved_model.load` where this package is not installed; nothing in it is
for one kind of device. It has two signatures, which take and return tensors by name:

- `initial_state`: `batch_size`, int32 scalar B -> `core_state_0`, `core_state_1`, ..., float32 [B, ...]: the core state
  at the start of an episode. Nothing for an agent without memory.
- `step`, for any B: `observation` (or `observation_image` and `observation_instruction`) [B, ...], `last_action` int32
  [B], `last_reward` float32 [B] (unclipped), `episode_start` bool [B] (the core state is reset there), and the core
  state -> `action` int32 [B], drawn from the softmax of `logits` float32 [B, A], `greedy_action` int32 [B], `value`
  float32 [B], and the next core state. Before the first step, last action and last reward are 0.

`assets.extra/impala_tf.json` (`METADATA`) says what it was trained for, how observations come about and what the
actions mean.
"""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

from impala_tf.errors import UserError, one_line
from impala_tf.structures import AgentInput, EnvironmentSpec, map_spec

METADATA = os.path.join("assets.extra", "impala_tf.json")

_NEEDED = {"tasks", "observation", "num_actions", "action_names", "environment_options", "settings"}


def observation_names(observation: Any) -> dict[str, Any]:
    """An observation's arrays, or their specs, by the names that they have in a signature."""
    if isinstance(observation, dict):
        return {f"observation_{key}": value for key, value in observation.items()}
    return {"observation": observation}


def core_state_names(core_state_spec: Any) -> dict[str, Any]:
    """The core state's `ArraySpec`s by the names that they have in a signature."""
    leaves: list[Any] = []
    map_spec(leaves.append, core_state_spec)
    return {f"core_state_{i}": leaf for i, leaf in enumerate(leaves)}


def describe(observation: Any) -> Any:
    """The nest of an observation's `ArraySpec`s as JSON has it."""
    return map_spec(lambda array: {"shape": list(array.shape), "dtype": np.dtype(array.dtype).name}, observation)


class Step(NamedTuple):
    """What a policy answers to B inputs.

    Attributes:
      logits: float32 [B, A].
      value: float32 [B].
      core_state: {name: float32 [B, ...]}, behind the step.
    """

    logits: np.ndarray
    value: np.ndarray
    core_state: dict[str, np.ndarray]


class SavedPolicy:
    """An agent's SavedModel, loaded.

    Attributes:
      path: its folder.
      metadata: what `METADATA` holds.
    """

    def __init__(self, path: str):
        """Loads it.

        Raises:
          UserError: there is none, it is damaged, or it is not an agent of this package.
        """
        self.path = pathlib.Path(path)
        self.metadata = read_metadata(self.path)
        import tensorflow as tf

        self._to_tensor = tf.convert_to_tensor
        try:
            # Kept as a whole: the signatures do not keep the variables alive.
            self._loaded = tf.saved_model.load(path)
            self._initial_state, self._step = (self._loaded.signatures[n] for n in ("initial_state", "step"))
        except Exception as error:  # Damage has many faces.
            raise UserError(
                f"--saved_model={path} is damaged and cannot be loaded ({one_line(error)[:200]}). Export it again."
            ) from None

    def initial_state(self, batch_size: int) -> dict[str, np.ndarray]:
        """{name: float32 [B, ...]}, the core state at the start of an episode."""
        state = self._initial_state(batch_size=self._to_tensor(batch_size))
        return {name: state[name].numpy() for name in sorted(state)}

    def step(self, inputs: AgentInput, core_state: dict[str, np.ndarray]) -> Step:
        """One step of B policies; inputs [B, ...], core state as `initial_state` returned it.

        Raises:
          UserError: the logits are not finite, so that no action can be chosen.
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
    """What `METADATA` holds; needs no TensorFlow.

    Raises:
      UserError: there is no SavedModel, or it is not an agent of this package.
    """
    if not (path / "saved_model.pb").is_file():
        raise UserError(f"--saved_model={path}: there is no SavedModel (no saved_model.pb). impala-export writes one.")
    try:
        metadata = json.loads((path / METADATA).read_text())
        if (
            not {"tasks", "observation", "num_actions", "action_names", "environment_options", "settings"}
            <= metadata.keys()
        ):
            raise ValueError
    except (OSError, ValueError, AttributeError):
        raise UserError(
            f"--saved_model={path} is no agent of impala_tf, or damaged: {METADATA} is missing or cannot be read. "
            "impala-export writes one."
        ) from None
    return metadata


def check(path: pathlib.Path, metadata: dict[str, Any], env_id: str, spec: EnvironmentSpec) -> None:
    """Tells whether the policy of a SavedModel can act in an environment; needs no TensorFlow.

    Args:
      path: of the SavedModel.
      metadata: of it.
      env_id: of the environment.
      spec: of it.

    Raises:
      UserError: the policy was made for other observations or actions than the environment's.
    """

    def refuse(what: str, expected: str, given: str) -> None:
        tasks = ", ".join(metadata["tasks"])
        tasks = tasks if len(tasks) <= 80 else f"{tasks[:77]}..."
        raise UserError(
            f"--saved_model={path} was trained on {tasks} and cannot play {env_id}: it takes {what} {expected}, and "
            f"they are {given} there."
        )

    expected, given = metadata["observation"], describe(spec.observation)
    if expected != given:
        refuse("observations", _short(expected), _short(given))
    names, others = metadata["action_names"], list(spec.action_names)
    if metadata["num_actions"] != spec.num_actions:
        refuse("actions", _listed(metadata["num_actions"], names), _listed(spec.num_actions, others))
    # Tasks that were learnt together may call their actions by different names.
    if names and others and names != others and env_id not in metadata["tasks"]:
        refuse("actions", ", ".join(names), ", ".join(others))


def _short(observation: dict[str, Any]) -> str:
    if "shape" in observation:
        return f"{observation['dtype']} {observation['shape']}"
    return ", ".join(f"{key} {_short(part)}" for key, part in observation.items())


def _listed(number: int, names: list[str]) -> str:
    return f"{number} ({', '.join(names)})" if names else str(number)

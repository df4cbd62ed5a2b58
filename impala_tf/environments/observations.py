"""Reduces the observations of a Gymnasium environment to what an agent can read."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Space

from impala_tf.environments import instructions
from impala_tf.errors import UserError
from impala_tf.structures import ArraySpec

_INSTRUCTION = Box(-(2**31), 2**31 - 1, instructions.SPEC.shape, np.int32)
_RANGES = {np.dtype(np.uint8): (0, 255), np.dtype(bool): (0, 1), np.dtype(np.float32): (-np.inf, np.inf)}


class AgentObservation(gymnasium.ObservationWrapper):
    """Turns observations into an array or, with text, Dict(image=array, instruction=int32 [MAX_WORDS]).

    Images, uint8 [height, width(, channels)], stay uint8 and get a channel dimension; other arrays become float32. From
    a Dict, the agent gets the image (or the only array, if there is no image) and the text; entries of other kinds,
    such as MiniGrid's `direction`, are dropped. Text is encoded by `instructions.encode`; an entry "instruction" that
    is already int32 [MAX_WORDS] stays as it is.

    Args:
      env: environment to wrap.
      name: environment id, for messages.
      keep_bool: arrays of bool stay bool, which takes a quarter of the bytes on the way to the learner.

    Raises:
      UserError: the actions are not discrete, or the observations do not have exactly one array and at most one text.
    """

    def __init__(self, env: gymnasium.Env, name: str, keep_bool: bool = False):
        super().__init__(env)
        if not isinstance(env.action_space, Discrete):
            raise UserError(f"{name} has the action space {env.action_space}; only Discrete ones are supported")
        space = env.observation_space
        self._array: str | None = None
        self._text: str | None = None
        array = space
        if isinstance(space, Dict):
            self._array, self._text = _entries(name, space)
            array = space[self._array]
        if not isinstance(array, Box):
            kind = type(array).__name__
            raise UserError(f"{name} has {kind} observations; only arrays (Box), alone or with text, are supported")
        spec = array_spec(array, keep_bool)
        image = Box(*_RANGES[spec.dtype], spec.shape, spec.dtype.type)
        self._spec = spec
        self.observation_space = image if self._text is None else Dict(image=image, instruction=_INSTRUCTION)

    def observation(self, observation: Any) -> Any:
        array = observation if self._array is None else observation[self._array]
        array = np.asarray(array).astype(self._spec.dtype, copy=False).reshape(self._spec.shape)
        if self._text is None:
            return array
        text = observation[self._text]
        return {"image": array, "instruction": instructions.encode(text) if isinstance(text, str) else text}


def array_spec(space: Box, keep_bool: bool = False) -> ArraySpec:
    """Returns the spec of the array that an agent gets for one in `space`; see `AgentObservation`."""
    image = _is_image(space)
    shape = (*space.shape, 1) if image and len(space.shape) == 2 else space.shape
    kept = image or (keep_bool and space.dtype == bool)
    return ArraySpec(shape, np.dtype(space.dtype if kept else np.float32))


def _is_image(space: Space) -> bool:
    return isinstance(space, Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3)


def _entries(name: str, space: Dict) -> tuple[str, str | None]:
    """Returns the key of the array that the agent gets, and that of the text, if there is one."""
    # MiniGrid's missions are not of the class gymnasium.spaces.Text, but have its dtype.
    texts = [key for key, entry in space.items() if entry.dtype is not None and entry.dtype.kind == "U"]
    texts += [key for key, entry in space.items() if key == "instruction" and _is_instruction(entry)]
    arrays = [key for key, entry in space.items() if isinstance(entry, Box) and key not in texts]
    seen = [key for key in arrays if _is_image(space[key])] or arrays
    if len(seen) != 1 or len(texts) > 1:
        raise UserError(
            f"{name} has Dict observations with the arrays {seen} and the texts {texts}; "
            "an agent sees exactly one array and at most one text"
        )
    return seen[0], texts[0] if texts else None


def _is_instruction(space: Space) -> bool:
    return isinstance(space, Box) and (space.shape, space.dtype) == instructions.SPEC

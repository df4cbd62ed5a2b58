"""Recordings of the real deepmind_lab module; their README says how they were made and what each file holds."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

_REPOSITORY = Path(__file__).resolve().parents[2]

# A part of the recordings, so that there is always something to test against.
EXCERPT = _REPOSITORY / "tests" / "environments" / "dmlab_recordings"

FRAMES_PER_STEP = 4


def folder() -> Path:
    """The whole recordings where there are any: IMPALA_TF_DMLAB_RECORDINGS, or beside the repository."""
    whole = Path(
        os.environ.get("IMPALA_TF_DMLAB_RECORDINGS", _REPOSITORY.parent / "shared" / "dmlab_recordings")
    ).resolve()
    return whole if (whole / "levels").is_dir() else EXCERPT


def levels() -> list[str]:
    """The recorded levels of DMLab-30."""
    return sorted(file.stem for file in (folder() / "levels").glob("*.npz"))


@functools.cache
def probe() -> dict[str, dict[str, Any]]:
    """What the module answered when it was used wrongly and rightly: {case: {"exit": code, "records": [...]}}."""
    return json.loads((folder() / "api_probe.json").read_text())


class Recording:
    """200 agent steps of one level: a fresh engine, one episode after another.

    Attributes:
      level: its path in the engine.
      config, observation_spec, action_spec: as the engine took and gave them.
      level_cache_calls: ["fetch" or "write", key, file name, ...] each.
      episode_frames: environment frames of a whole episode.
      seeds: of each episode in turn.
      actions: int [200] into `action_set` [9, 7].
      rewards: float64 [200].
      done: bool [200]: the step ended the episode; the next entry is the next episode's.
      num_steps: [200]: environment frames in the episode so far.
      instructions: [201] of str, the one after step i, or after the reset that it brought, at i + 1.
    """

    def __init__(self, name: str):
        about = json.loads((folder() / "levels" / f"{name}.json").read_text())
        with np.load(folder() / "levels" / f"{name}.npz") as arrays:
            self.action_set, self.actions = arrays["action_set"], arrays["actions_index"]
            self.rewards, self.done, self.num_steps = arrays["rewards"], arrays["done"], arrays["num_steps"]
            self.instructions: list[str] = arrays["instr"].tolist()
            self._frames = dict(zip(arrays["frame_index"].tolist(), arrays["frames"]))
        self.name, self.level, self.config = name, about["level"], about["config"]
        self.observation_spec, self.action_spec = about["observation_spec"], about["action_spec"]
        self.level_cache_calls = about["level_cache_calls"]
        self.episode_frames = about["full_episode"][0]["num_steps"]
        self.seeds = [about["seed"] + 1000 * episode for episode in range(self.done.sum() + 1)]

    def frame(self, entry: int) -> np.ndarray | None:
        """uint8 [72, 96, 3], numbered as `instructions`; None where it was not kept."""
        return self._frames.get(entry)

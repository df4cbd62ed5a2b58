"""A stand-in for the deepmind_lab module, to be put at the end of sys.path: a real one then goes first.

It answers as recordings of the real module say. A fresh `Lab` that is asked what was asked in the recording (the same
settings, seeds, actions) gives the recorded rewards, ends, instructions and images; where an image was not kept, the
last one that was. At the first call that differs it starts to make things up, of the same kind and length: noise for
images, drawn from seed and time, so nothing that a test expects of the recording can come of it. What it cannot know
it refuses with an AssertionError.

Wrong use is answered as the real module answered it, and where that ended the process or hung, so does this end it or
fail at once.
"""

from __future__ import annotations

import functools
import hashlib
import operator
import os
import shutil
import signal
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, NoReturn

import dmlab_recordings
import numpy as np
from dmlab_recordings import Recording

_KNOWN_SETTINGS = {"width", "height", "logLevel", "datasetPath", "allowHoldOutLevels", "mixerSeed"}
_NO_PICTURES = "continuous_recognition_nodata"
_DTYPES = {"<class 'numpy.uint8'>": np.uint8, "<class 'numpy.float64'>": np.float64, "<class 'str'>": str}

# The processes that hold engines, one entry each; inherited by a fork.
_holders: list[int] = []

_recording = functools.cache(Recording)


def runfiles_path() -> str:
    return "<runfiles>"


def version() -> str:
    return "1.0"


class Lab:
    """See docs/users/python_api.md in github.com/google-deepmind/lab."""

    _pid = 0  # Of the process that made it; 0 where that failed or it is closed.

    def __init__(
        self,
        level: str,
        observations: list[str],
        config: dict[str, str] = {},  # noqa: B006 - the real signature.
        renderer: str = "software",
        level_cache: Any = None,
        temp_folder: str = "",
    ):
        for position, (argument, kind) in enumerate([(level, str), (observations, list), (config, dict)], start=1):
            if not isinstance(argument, kind):
                raise TypeError(f"argument {position} must be {kind.__name__}, not {_type_name(argument)}")
        if not all(isinstance(text, str) for text in [*observations, *config, *config.values()]):
            raise TypeError("bad argument type for built-in operation")
        if renderer not in ("", "software", "hardware"):
            raise RuntimeError(f'Failed to set renderer must be "hardware" or "software" actual "{renderer}"!')
        if renderer == "hardware":
            raise RuntimeError("Failed to connect RL API")
        if any(pid != os.getpid() for pid in _holders):
            raise AssertionError("forked from a process that holds a Lab: the real module hangs here")
        self._recording = _find(level)
        _check_config(self._recording, config)
        spec = {entry["name"]: entry for entry in self._recording.observation_spec}
        for name in observations:
            if name not in spec:
                raise ValueError(f"Unknown observation '{name}'.")
            if name not in ("RGB_INTERLEAVED", "INSTR"):
                raise AssertionError(f"no {name} was recorded")
        self._names, self._config, self._cache = observations, config, level_cache
        self._running, self._frames, self._seed, self._resets = False, 0, 0, 0
        # Entry of the recording; None once the calls are not those of the recording.
        self._entry: int | None = 0 if config == self._recording.config else None
        self._owns_folder = not temp_folder
        self._folder = temp_folder or tempfile.mkdtemp(prefix="dmlab_temp_folder_")
        Path(self._folder, "qkey").touch()  # Stays in a folder of the caller's, as recorded.
        self._pid = os.getpid()
        _holders.append(self._pid)

    def __del__(self) -> None:
        self.close()

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("cannot pickle 'deepmind_lab.Lab' object")

    def observation_spec(self) -> list[dict[str, Any]]:
        self._crash_if_closed()
        return [
            {"name": entry["name"], "shape": tuple(entry["shape"]), "dtype": _DTYPES[entry["dtype"]]}
            for entry in self._recording.observation_spec
        ]

    def action_spec(self) -> list[dict[str, Any]]:
        self._crash_if_closed()
        return self._recording.action_spec

    def is_running(self) -> bool:
        return self._running

    def num_steps(self) -> int:
        return self._frames

    def reset(self, episode: int = -1, seed: int | None = None) -> bool:
        self._crash_if_closed()
        operator.index(episode)
        if seed is None:
            raise AssertionError("reset without a seed: processes that start together would play the same episode")
        if not isinstance(seed, int):
            raise ValueError(f"'seed' must be int or None, was '{_type_name(seed)}'.")
        if not -(2**63) <= seed < 2**63:
            raise OverflowError("Python int too large to convert to C long")
        self._running, self._frames, self._seed = False, 0, seed
        if "datasetPath" in self._recording.config and not self._config.get("datasetPath"):
            raise _recorded_error(_NO_PICTURES, "reset")
        entry = self._entry
        due = entry == 0 if self._resets == 0 else entry is not None and self._recording.done[entry - 1]
        if not due or seed != self._recording.seeds[self._resets]:
            self._entry = None
        self._load_map()
        self._resets += 1
        self._running = True
        return True

    def step(self, action: np.ndarray, num_steps: int = 1) -> float:
        if not isinstance(action, np.ndarray):
            raise TypeError(f"argument 1 must be numpy.ndarray, not {_type_name(action)}")
        num_steps = operator.index(num_steps)
        if not self._running:
            raise RuntimeError("Environment in wrong status to advance.")
        if action.shape != (7,):
            raise ValueError("action must have shape (7)")
        if action.dtype.newbyteorder("=") != np.intc:
            raise ValueError("action must have dtype np.intc")
        if not (action.flags.c_contiguous and action.dtype.isnative):
            raise AssertionError("the real module reads the action's memory regardless of strides and byte order")
        self._frames += num_steps
        entry, recording = self._entry, self._recording
        if (
            entry is not None
            and entry < len(recording.actions)
            and num_steps == dmlab_recordings.FRAMES_PER_STEP
            and np.array_equal(action, recording.action_set[recording.actions[entry]])
        ):
            self._entry = entry + 1
            self._running = not recording.done[entry]
            assert self._frames == recording.num_steps[entry]
            return float(recording.rewards[entry])
        self._entry = None
        self._running = self._frames < recording.episode_frames
        return float(self._invent().random() < 0.02)

    def observations(self) -> dict[str, Any]:
        if not self._running:
            raise RuntimeError("Environment in wrong status for call to observations()")
        recording = self._recording
        if self._entry is None:
            random = self._invent()
            image = random.integers(0, 256, (72, 96, 3), np.uint8)
            instruction = str(random.choice(sorted(set(recording.instructions))))
        else:
            kept = next(e for e in range(self._entry, -1, -1) if recording.frame(e) is not None)
            image, instruction = recording.frame(kept).copy(), recording.instructions[self._entry]  # type: ignore
        return {name: {"RGB_INTERLEAVED": image, "INSTR": instruction}[name] for name in self._names}

    def close(self) -> bool:
        if self._pid != os.getpid():
            return False
        _holders.remove(self._pid)
        if self._owns_folder:
            shutil.rmtree(self._folder)
        self._pid, self._running, self._frames = 0, False, 0
        return True

    def _invent(self) -> np.random.Generator:
        return np.random.default_rng([self._seed % 2**64, self._frames])

    def _crash_if_closed(self) -> None:
        if not self._pid:
            os.kill(os.getpid(), signal.SIGSEGV)

    def _load_map(self) -> None:
        """Asks the level cache for the first of the episode's maps, and hands it over where it had to be compiled."""
        if self._cache is None or not self._recording.level_cache_calls:
            return
        _, key, file, *_ = self._recording.level_cache_calls[0]
        if self._entry != 0:
            key = key[:-32] + hashlib.md5(f"{self._recording.level} {self._seed}".encode()).hexdigest()
        path = Path(self._folder, "baselab", file)
        path.parent.mkdir(exist_ok=True)
        if self._cache.fetch(key, str(path)):
            try:
                with zipfile.ZipFile(path) as pk3:
                    found = pk3.read(f"maps/{path.stem}.bsp").startswith(key.encode())
            except (OSError, zipfile.BadZipFile, KeyError):
                found = False
            if not found:
                print(f"Didn't find map '{path.stem}'", file=sys.stderr, flush=True)
                os._exit(1)
        else:
            with zipfile.ZipFile(path, "w") as pk3:
                pk3.writestr(f"maps/{path.stem}.bsp", key.encode() + np.random.default_rng(0).bytes(60_000))
            self._cache.write(key, str(path))


def _find(level: str) -> Recording:
    if not level:
        raise RuntimeError("Failed to init environment - \"Missing level script must set setting 'levelName'!\"")
    folder, _, name = level.rpartition("/")
    if folder != "contributed/dmlab30" or name not in dmlab_recordings.levels():
        file = f"<runfiles>/baselab/game_scripts/levels/{level}.lua"
        raise RuntimeError(f"Failed to init environment - \"Level not found: Failed to open file '{file}'\"")
    return _recording(name)


def _check_config(recording: Recording, config: dict[str, str]) -> None:
    unknown = config.keys() - _KNOWN_SETTINGS
    if unknown or (config.get("width"), config.get("height")) != ("96", "72"):
        raise AssertionError(f"nothing was recorded with these settings: {config}")
    if recording.name.endswith("_test") and config.get("allowHoldOutLevels") != "true":
        raise _recorded_error("holdout", "rooms_collect_good_objects_test without allowHoldOutLevels")


def _recorded_error(case: str, what: str) -> RuntimeError:
    records = dmlab_recordings.probe()[case]["records"]
    return RuntimeError(next(message for label, _, _, message in records if label == what))


def _type_name(value: Any) -> str:
    kind = type(value)
    if value is None:
        return "None"
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"

"""Gymnasium environments for tests, importable where their instances are hosted."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
import time

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Text

WORDS = ["red", "ball", "blue", "key", "go", "to"]


class Spoken(gymnasium.Env):
    """A gray image, a mission in words, and a direction; episodes end in both ways, after random times."""

    observation_space = Dict(
        image=Box(0, 255, (6, 5), np.uint8),
        mission=Text(64, charset="abcdefghijklmnopqrstuvwxyz "),
        direction=Discrete(4),
    )
    action_space = Discrete(3, start=5)  # type: ignore[assignment]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._mission = " ".join(self.np_random.choice(WORDS, size=self.np_random.integers(1, 5)))
        return self._look(0), {"mission": self._mission}

    def step(self, action):
        assert action in self.action_space
        end = self.np_random.integers(12)
        return self._look(action), float(self.np_random.normal()), end == 0, end <= 1, {}

    def _look(self, action):
        image = self.np_random.integers(250, size=(6, 5)).astype(np.uint8) + np.uint8(action)
        return {"image": image, "mission": self._mission, "direction": 2}


class Told(Spoken):
    """Writes a letter for each episode that it starts into a file of its own in `directory`."""

    def __init__(self, directory: str):
        self._file = f"{directory}/{_note(directory, '')}"

    def reset(self, *, seed=None, options=None):
        with open(self._file, "a") as file:
            file.write("r")
        return super().reset(seed=seed)


class Ready(gymnasium.Env):
    """An image and an instruction that is encoded already, and variables that no agent sees."""

    observation_space = Dict(
        image=Box(0, 255, (4, 4, 3), np.uint8),
        instruction=Box(-1, 999, (64,), np.int32),
        variables=Box(-1, 1, (2,), np.float32),
    )
    action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        return {
            "image": np.ones((4, 4, 3), np.uint8),
            "instruction": np.arange(64, dtype=np.int32),
            "variables": None,
        }, {}


class Vector(gymnasium.Env):
    """Counts its steps in float64; number `index` of the instances fails, in some way, at some time.

    Each writes its process, and one that it starts, into `directory`. Number 0 is only made to be described.
    """

    observation_space = Box(-np.inf, np.inf, (2,), np.float64)
    action_space = Discrete(2)

    def __init__(self, directory: str = "", index: int = 0, how: str = "", when: str = "step"):
        self._how, self._when = how, when
        if directory:
            # As an engine that runs as another program.
            engine = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            self._how = how if _note(directory, f"{os.getpid()} {engine.pid}") == index else ""
        self._fail("make")

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._steps = 0
        self._fail("reset")
        return np.array([self._steps, seed or 0], float), {}

    def step(self, action):
        self._steps += 1
        if self._steps == 3:
            self._fail("step")
        return np.array([self._steps, action], float), 1.0, False, False, {}

    def _fail(self, when: str) -> None:
        if when != self._when:
            return
        if self._how == "raise":
            raise Unpicklable("no\nway")
        if self._how == "exit":
            os._exit(3)
        if self._how == "crash":
            ctypes.string_at(0)
        if self._how == "hang":
            ctypes.PyDLL(None).sleep(600)  # With the interpreter's lock held.
        if self._how == "slow":
            time.sleep(0.3)


def _note(directory: str, text: str) -> int:
    """Writes `text` into a file of its own; returns how many there were before."""
    for number in range(100):
        with contextlib.suppress(FileExistsError), open(f"{directory}/{number}", "x") as file:
            file.write(text)
            return number
    raise AssertionError


class Unpicklable(Exception):
    def __reduce__(self):
        raise TypeError("cannot be sent to another process")


def in_processes(config, ready, directory):
    """Work of a `Child`: steps instances in processes of its own, then waits for its end."""
    import functools

    from impala_tf.environments.gymnasium_env import GymnasiumEnvironment

    environment = GymnasiumEnvironment("x", 2, 0, make_one=functools.partial(Modules, directory), processes=True)
    environment.reset()
    environment.step(np.zeros(2))
    ready()
    time.sleep(600)


class Modules(Vector):
    """Says which modules its process has loaded."""

    def reset(self, *, seed=None, options=None):
        assert "tensorflow" not in sys.modules and "reverb" not in sys.modules
        return super().reset(seed=seed)


gymnasium.register("Spoken-v0", entry_point=Spoken)  # type: ignore[arg-type]

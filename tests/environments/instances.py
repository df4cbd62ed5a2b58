"""Gymnasium environments for tests, importable in child processes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Text

WORDS = ["red", "ball", "blue", "key", "go", "to"]


class Spoken(gymnasium.Env):
    """Gives a gray image, a mission in words, and a direction; episodes terminate or are truncated at random times."""

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
    """Writes a letter for each episode that it starts to a file of its own in `directory`."""

    def __init__(self, directory: str):
        self._file = f"{directory}/{_note(directory, '')}"

    def reset(self, *, seed=None, options=None):
        with open(self._file, "a") as file:
            file.write("r")
        return super().reset(seed=seed)


class Ready(gymnasium.Env):
    """Gives an image, an instruction that is already encoded, and variables that no agent sees."""

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
    """Counts its steps in float64; one of the instances fails, in some way, at some time.

    Where `configure` names a directory, each instance writes its process, and one that it starts, into a file there.
    """

    observation_space = Box(-np.inf, np.inf, (2,), np.float64)
    action_space = Discrete(2)

    def __init__(self):
        directory, index, self._how, self._when = os.environ.get("INSTANCES", ",,,").split(",")
        if directory:
            # As an engine that runs as another program.
            engine = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
            if _note(directory, f"{os.getpid()} {engine.pid}") != int(index):
                self._how = ""
        pathlib.Path(tempfile.gettempdir(), "left").touch()
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
            os.write(2, b"Didn't find map 'x'\n: No such file\n")  # As DeepMind Lab does.
            os._exit(3)
        if self._how == "sys.exit":
            sys.exit(7)
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


def configure(directory: object, index: int = 0, how: str = "", when: str = "step") -> str:
    """Returns the value of the environment variable INSTANCES that makes the `index`-th `Vector` fail."""
    return f"{directory},{index},{how},{when}"


def running(directory: pathlib.Path) -> set[int]:
    """Returns the processes of the instances and of their engines that still run."""
    pids = {int(pid) for file in directory.iterdir() for pid in file.read_text().split()}
    return {pid for pid in pids if _state(pid) not in ("", "Z", "X")}


def _state(pid: int) -> str:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def all_ended(directory: pathlib.Path, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while running(directory) and time.monotonic() < end:
        time.sleep(0.02)
    return not running(directory)


def in_processes(directory: str):
    """Work of a `Child`: steps instances in processes of its own, then waits for its end."""
    from impala_tf import environments
    from impala_tf.environments.remote.lockstep import Lockstep
    from impala_tf.environments.remote.pool import WorkerPool
    from impala_tf.processes import parent

    env_id = "gymnasium/instances:Modules-v0"
    pool = WorkerPool(environments.spec("gymnasium/instances:Vector-v0"), [env_id] * 2, {}, 0, 60.0, restart=False)
    os.environ["INSTANCES"] = configure(directory)
    environment = Lockstep(pool, 60.0, pool.close)
    environment.reset()
    environment.step(np.zeros(2))
    parent.send(parent.Ready())
    time.sleep(600)


class Modules(Vector):
    """Fails if its process has loaded large libraries."""

    def reset(self, *, seed=None, options=None):
        assert "tensorflow" not in sys.modules and "reverb" not in sys.modules
        return super().reset(seed=seed)


for _kind in (Spoken, Vector, Modules):
    gymnasium.register(f"{_kind.__name__}-v0", entry_point=_kind)  # type: ignore[arg-type]

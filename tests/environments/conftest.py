"""DeepMind Lab for tests: the real module if it can be imported, else a stand-in that replays recordings."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

STANDIN = Path(__file__).resolve().parents[1] / "dmlab_standin"


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, STANDIN / f"{name}.py")
    assert spec and spec.loader
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


dmlab_recordings = _load("dmlab_recordings")


@pytest.fixture
def deepmind_lab() -> Iterator[Any]:
    """The module, also in processes that the test starts; `deepmind_lab.is_real` tells it from the stand-in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(STANDIN)])
        module = importlib.import_module("deepmind_lab")
        patch.setattr(module, "is_real", Path(str(module.__file__)).parent != STANDIN, raising=False)
        yield module
        if not module.is_real:
            del sys.modules["deepmind_lab"]


@pytest.fixture(params=dmlab_recordings.levels())
def recording(request: pytest.FixtureRequest) -> Any:
    """A `Recording`, of each recorded level in turn."""
    return dmlab_recordings.Recording(request.param)


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch, deepmind_lab: Any) -> list[Any]:
    """Records every engine and the calls that it got."""
    made: list[Any] = []
    make = deepmind_lab.Lab

    class Engine:
        def __init__(self, *args: Any, **options: Any):
            self.args, self.options, self.seeds, self.steps = args, options, [], []
            self.closed = False
            made.append(self)
            self._lab = make(*args, **options)

        def reset(self, *, seed: int) -> bool:
            self.seeds.append(seed)
            return self._lab.reset(seed=seed)

        def step(self, action: np.ndarray, num_steps: int) -> float:
            self.steps.append((action, num_steps))
            return self._lab.step(action, num_steps=num_steps)

        def close(self) -> bool:
            assert not self.closed
            self.closed = True
            return self._lab.close()

        def __getattr__(self, name: str) -> Any:
            assert not self.closed, f"{name} after close() ends the process"
            return getattr(self._lab, name)

    monkeypatch.setattr(deepmind_lab, "Lab", Engine)
    return made

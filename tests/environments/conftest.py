"""DeepMind Lab for tests: the real module if it can be imported, else a stand-in that replays recordings."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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

"""What DeepMind Lab, its absence, and wrong settings of it tell the user; conftest.py chooses the module under test."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from impala_tf.environments import dmlab
from impala_tf.environments.dmlab import LabLevel, check
from impala_tf.errors import UserError

pytestmark = pytest.mark.usefixtures("deepmind_lab")

LEVEL = "rooms_watermaze"


@pytest.mark.parametrize(
    "level, message",
    [
        ("rooms_watermase", "did you mean dmlab/rooms_watermaze"),
        ("contributed/dmlab30/explore_goal_location_small", "did you mean dmlab/explore_goal_locations_small"),
        ("seekavoid_arena", "did you mean dmlab/seekavoid_arena_01"),
        ("qqqq", "unknown level dmlab/qqqq: A level is named"),
        ("", "unknown level"),
    ],
)
def test_unknown_levels(level: str, message: str, engines: list[Any]):
    for attempt in (check, LabLevel):
        with pytest.raises(UserError, match=message) as caught:
            attempt(level)
        assert "\n" not in str(caught.value)
    assert not engines


def test_what_the_engine_refuses_becomes_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, deepmind_lab: Any):
    (tmp_path / "baselab" / "game_scripts" / "levels" / "mine").mkdir(parents=True)
    (tmp_path / "baselab" / "game_scripts" / "levels" / "mine" / "level.lua").touch()
    with monkeypatch.context() as patch:  # A level that is there to see, and that the engine does not take.
        patch.setattr(deepmind_lab, "runfiles_path", lambda: str(tmp_path))
        env = LabLevel("mine/level")
        with pytest.raises(UserError, match=r"dmlab/mine/level cannot be made: Failed to init") as caught:
            env.reset(seed=0)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(dmlab, "_TEST_SETTINGS", {})
    with pytest.raises(UserError, match="must only be used during evaluation") as caught:
        LabLevel("rooms_collect_good_objects_test").reset(seed=0)
    assert "\n" not in str(caught.value) and "stack traceback" not in str(caught.value)


def test_a_missing_graphics_card_becomes_one_line(deepmind_lab: Any):
    if deepmind_lab.is_real:
        pytest.skip("a real module may have one")
    with pytest.raises(UserError, match="cannot be made: Failed to connect RL API; --dmlab_renderer=software"):
        LabLevel(LEVEL, renderer="hardware").reset(seed=0)


def test_without_the_module(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "deepmind_lab", None)
    for attempt in (check, LabLevel):
        with pytest.raises(UserError, match=r"github.com/google-deepmind/lab with `bazel build.* dm_env") as caught:
            attempt(LEVEL)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "source", ["raise ImportError('libOSMesa.so.8: cannot open shared object file')", "import no_such_module_there"]
)
def test_a_module_that_does_not_load(source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "deepmind_lab.py").write_text(source)
    monkeypatch.delitem(sys.modules, "deepmind_lab")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=r"installed but cannot be imported: .*(libOSMesa|pip install no_such)"):
        check(LEVEL)


def test_levels_that_need_pictures(tmp_path: Path):
    level = "psychlab_continuous_recognition"
    for name in (level, f"contributed/dmlab30/{level}"):
        with pytest.raises(UserError, match=r"Brady.*README.*--dmlab_dataset_path") as caught:
            check(name)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="there is no such folder"):
        check(level, dataset_path=str(tmp_path / "no"))
    check(level, dataset_path=str(tmp_path))
    check("psychlab_visual_search")
    env = LabLevel(level, dataset_path="dummy")
    env.reset(seed=0)
    env.close()

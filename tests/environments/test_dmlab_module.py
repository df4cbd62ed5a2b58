"""The behavior of deepmind_lab on which `LabLevel` and its tests rely: the stand-in answers as recorded."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from impala_tf.environments.dmlab import engine_config, engine_level

STANDIN = Path(__file__).resolve().parents[1] / "dmlab_standin"
LEVEL, SHORT, WITH_MAPS = (
    f"contributed/dmlab30/{name}"
    for name in ("rooms_watermaze", "rooms_select_nonmatching_object", "language_select_located_object")
)
CONFIG = {"width": "96", "height": "72", "logLevel": "WARN"}
FORWARD = np.array([0, 0, 0, 1, 0, 0, 0], np.intc)


def answer(call: Callable[[], Any]) -> list[str]:
    """Makes a call; returns, as the recordings do, how it ended, and the type and text of the result or error."""
    try:
        value = call()
    except Exception as error:
        return ["raised", f"builtins.{type(error).__name__}", str(error)]
    return ["returned", type(value).__name__, repr(value)]


def recorded(case: str) -> dict[str, list[str]]:
    from dmlab_recordings import probe  # In conftest.py.

    answers: dict[str, list[str]] = {}
    for what, *rest in probe()[case]["records"]:
        answers.setdefault(what, rest)  # Some ask twice: first before the reset, then after it.
    return answers


CONSTRUCTIONS: dict[str, dict[str, Any]] = {
    "ctor_bad_level": {"level": "no_such_level"},
    "ctor_bad_level_dmlab30": {"level": "contributed/dmlab30/no_such"},
    "ctor_empty_level": {"level": ""},
    "ctor_level_none": {"level": None},
    "ctor_bad_obs": {"observations": ["NOT_AN_OBS"]},
    "ctor_obs_lower": {"observations": ["rgb_interleaved"]},
    "ctor_obs_tuple": {"observations": ("RGB_INTERLEAVED",)},
    "ctor_obs_nonstr": {"observations": [3]},
    "ctor_cfg_int": {"config": {"width": 96, "height": "72"}},
    "ctor_cfg_bytes": {"config": {"width": b"96", "height": "72"}},
    "ctor_cfg_notdict": {"config": []},
    "ctor_cfg_none": {"config": None},
    "renderer_bad": {"renderer": "opengl"},
    "renderer_hw": {"renderer": "hardware"},
    "holdout": {"level": "contributed/dmlab30/rooms_collect_good_objects_test"},
}


@pytest.mark.parametrize("case", CONSTRUCTIONS)
def test_a_wrong_construction_is_refused_as_recorded(case: str, deepmind_lab: Any):
    if deepmind_lab.is_real and case in ("renderer_hw", "holdout"):
        pytest.skip("depends on how, and where, the module was built")
    options = {"level": LEVEL, "observations": ["RGB_INTERLEAVED"], "config": CONFIG, **CONSTRUCTIONS[case]}
    level, observations, config = (options.pop(name) for name in ("level", "observations", "config"))
    got = answer(lambda: deepmind_lab.Lab(level, observations, config, **options))
    got[2] = got[2].replace(str(deepmind_lab.runfiles_path()), "<runfiles>")
    assert [got] == list(recorded(case).values())


@pytest.fixture
def lab(deepmind_lab: Any) -> Any:
    lab = deepmind_lab.Lab(SHORT, ["RGB_INTERLEAVED", "INSTR"], CONFIG)
    yield lab
    lab.close()


ACTIONS = {
    "step int64": FORWARD.astype(np.int64),
    "step float32": FORWARD.astype(np.float32),
    "step uint8": FORWARD.astype(np.uint8),
    "step uint32": FORWARD.astype(np.uint32),
    "step bool": FORWARD.astype(bool),
    "step shape 6": FORWARD[:6].copy(),
    "step shape 8": np.zeros(8, np.intc),
    "step shape 1,7": FORWARD[None],
    "step scalar": np.int32(1),
    "step 0-d array": np.array(1, np.intc),
    "step list": FORWARD.tolist(),
    "step tuple": tuple(FORWARD.tolist()),
    "step None": None,
    "step int64 shape 6": np.zeros(6, np.int64),
}


def test_wrong_actions_are_refused_as_recorded(lab: Any):
    lab.reset(seed=0)
    answers = recorded("actions")
    for what, action in ACTIONS.items():
        assert answer(lambda a=action: lab.step(a, num_steps=4)) == answers[what], what
    assert answer(lambda: lab.step(FORWARD, num_steps=4.0)) == answers["step num_steps float"]
    assert lab.num_steps() == 0
    assert type(lab.step(FORWARD, num_steps=4)) is float and lab.num_steps() == 4


def test_wrong_seeds_are_refused_as_recorded(lab: Any):
    answers = recorded("reset_args")
    seeds = {"2**70": 2**70, "1.0": 1.0, "'1'": "1", "np.int32": np.int32(1), "np.int64": np.int64(1), "2**31-1": 2**31}
    for what, seed in seeds.items():
        assert answer(lambda s=seed: lab.reset(seed=s)) == answers[f"reset seed={what}"], what


def test_calls_at_the_wrong_time_are_refused_as_recorded(lab: Any):
    calls: dict[str, Callable[[], Any]] = {
        "is_running": lab.is_running,
        "num_steps": lab.num_steps,
        "observations": lab.observations,
        "step": lambda: lab.step(FORWARD, num_steps=4),
    }
    for what, call in calls.items():
        assert answer(call) == recorded("before_reset")[what], what
    lab.reset(seed=0)
    while lab.is_running():
        lab.step(FORWARD, num_steps=4)
    ended = recorded("episode_end")
    assert answer(lab.observations) == ended["observations after end"]
    assert answer(calls["step"]) == ended["step after end"]
    assert lab.reset(seed=1) is True and lab.is_running() and lab.num_steps() == 0
    assert [answer(lab.close), answer(lab.close)] == [recorded("close")["close"], recorded("close")["close again"]]
    for what in ("observations", "step", "num_steps"):
        assert answer(calls[what]) == recorded("closed_step")[what], what


def test_without_pictures_the_level_does_not_start(deepmind_lab: Any):
    level = engine_level("psychlab_continuous_recognition")
    got = answer(lambda: deepmind_lab.Lab(level, ["INSTR"], engine_config(level)).reset(seed=1))
    expected = recorded("continuous_recognition_nodata")["reset"]
    assert got[:2] == expected[:2] and got[2][:26] == expected[2][:26] == "Failed to start environmen"


def test_a_folder_for_temporary_files_is_left_to_the_caller(deepmind_lab: Any, tmp_path: Path):
    lab = deepmind_lab.Lab(SHORT, ["INSTR"], CONFIG, temp_folder=str(tmp_path))
    inside = [[file.name for file in tmp_path.iterdir()]]
    lab.close()
    inside.append([file.name for file in tmp_path.iterdir()])
    assert inside == [files for _, _, files in recorded("temp_folder").values()]


class Cache:
    """A level cache with a given answer to `fetch`, which records the calls."""

    def __init__(self, fetched: Any):
        self._fetched, self.calls = fetched, []  # type: ignore[var-annotated]

    def fetch(self, key: str, pk3_path: str) -> Any:
        self.calls.append("fetch")
        if isinstance(self._fetched, Exception):
            raise self._fetched
        return self._fetched

    def write(self, key: str, pk3_path: str) -> None:
        assert Path(pk3_path).stat().st_size > 1000
        self.calls.append("write")


def test_the_level_cache_is_asked_as_recorded(deepmind_lab: Any):
    def reset(cache: Any) -> Any:
        lab = deepmind_lab.Lab(WITH_MAPS, ["INSTR"], CONFIG, level_cache=cache)
        lab.is_running()
        return lab.reset(seed=1)

    cache = Cache(None)
    assert answer(lambda: reset(cache)) == recorded("cache_none_return")["fetch returned None"]
    assert cache.calls[:2] == ["fetch", "write"]
    raised = answer(lambda: reset(Cache(KeyError("boom expl"))))
    assert raised == recorded("cache_raises")["reset with raising fetch"]
    assert answer(lambda: reset(object())) == recorded("cache_nomethods")["reset"]


def in_a_process_of_its_own(code: str, folder: Path) -> subprocess.CompletedProcess:
    header = f"""
import sys
sys.path.append({str(STANDIN)!r})
import deepmind_lab
class Liar:
    def fetch(self, key, path):
        return True
lab = deepmind_lab.Lab({WITH_MAPS!r}, ['INSTR'], {CONFIG!r}, level_cache=Liar())
"""
    environment = {**os.environ, "TMPDIR": str(folder)}  # It leaves a folder there.
    return subprocess.run([sys.executable, "-c", header + code], capture_output=True, text=True, env=environment)


ENDS = {
    "cache_lies": "lab.reset(seed=1)",
    "closed_reset": "lab.close(); lab.reset(seed=1)",
    "closed_spec": "lab.close(); lab.observation_spec()",
    "closed_action_spec": "lab.close(); lab.action_spec()",
}


@pytest.mark.parametrize("case", ENDS)
def test_what_ended_the_process_ends_it(case: str, tmp_path: Path):
    from dmlab_recordings import probe

    assert in_a_process_of_its_own(ENDS[case], tmp_path).returncode == probe()[case]["exit"]


def test_specs_are_the_recorded_ones(recording: Any, deepmind_lab: Any):
    lab = deepmind_lab.Lab(recording.level, ["INSTR"], recording.config)
    assert lab.action_spec() == recording.action_spec
    spec = [{**entry, "shape": list(entry["shape"]), "dtype": str(entry["dtype"])} for entry in lab.observation_spec()]
    assert spec == recording.observation_spec
    lab.close()


def play(lab: Any, seeds: list[int], actions: np.ndarray, num_steps: int = 4) -> list[np.ndarray]:
    images, seeds = [], list(seeds)
    lab.reset(seed=seeds.pop(0))
    for action in actions:
        lab.step(action, num_steps=num_steps)
        if not lab.is_running():
            lab.reset(seed=seeds.pop(0))
        images.append(lab.observations()["RGB_INTERLEAVED"])
    return images


def test_the_stand_in_leaves_the_recording_with_the_first_call_that_differs(recording: Any, deepmind_lab: Any):
    if deepmind_lab.is_real:
        pytest.skip("of the stand-in")
    actions = recording.action_set[recording.actions]
    make = functools.partial(deepmind_lab.Lab, recording.level, ["RGB_INTERLEAVED"])
    right = play(make(recording.config), recording.seeds, actions)
    np.testing.assert_array_equal(right[1], recording.frame(2))
    other_action = actions.copy()
    other_action[0] = recording.action_set[(recording.actions[0] + 1) % 9]
    wrong = {
        "seed": play(make(recording.config), [recording.seeds[0] + 1, *recording.seeds], actions),
        "action": play(make(recording.config), recording.seeds, other_action),
        "repeat": play(make(recording.config), [*recording.seeds, 0], actions, num_steps=3),
        "setting": play(make({**recording.config, "mixerSeed": "7"}), recording.seeds, actions),
    }
    for what, images in wrong.items():
        assert not any((a == b).mean() > 0.5 for a, b in zip(right, images)), what
    with pytest.raises(AssertionError, match="strides"):
        lab = make(recording.config)
        lab.reset(seed=0)
        lab.step(np.zeros((7, 2), np.intc)[:, 0], num_steps=4)

"""DeepMind Lab, compared with recordings of the real module; conftest.py chooses the module under test."""

from __future__ import annotations

import functools
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

from impala_tf import environments
from impala_tf.environments import dmlab, instructions
from impala_tf.environments.dmlab import ACTIONS, LEVELS, LabLevel, check, engine_config, engine_level
from impala_tf.environments.remote.lockstep import Lockstep
from impala_tf.environments.remote.pool import WorkerPool
from impala_tf.errors import UserError
from impala_tf.structures import ArraySpec

pytestmark = pytest.mark.usefixtures("deepmind_lab")

LEVEL, WITH_INSTRUCTIONS, SHORT = "rooms_watermaze", "language_select_located_object", "rooms_select_nonmatching_object"


class Seeds:
    """Replaces an environment's random generator; draws these seeds."""

    def __init__(self, seeds: list[int]):
        self._seeds = iter(seeds)

    def integers(self, high: int) -> np.int64:
        return np.int64(next(self._seeds))


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


def test_a_recorded_game_is_played_as_it_was_recorded(recording: Any, deepmind_lab: Any):
    if deepmind_lab.is_real and recording.name == "natlab_fixed_large_map":
        pytest.skip("another map stood in for this one in the recording")
    env = LabLevel(recording.name, dataset_path=recording.config.get("datasetPath", ""))
    env.np_random = Seeds(recording.seeds)  # type: ignore[assignment]
    images_seen = 0

    def compare(observation: dict[str, np.ndarray], entry: int) -> None:
        nonlocal images_seen
        assert env.observation_space.contains(observation)
        np.testing.assert_array_equal(
            observation["instruction"], instructions.encode(recording.instructions[entry]), err_msg=f"entry {entry}"
        )
        image = recording.frame(entry)
        if image is not None and not deepmind_lab.is_real:  # A real one has other textures, see the recordings' README.
            np.testing.assert_array_equal(observation["image"], image, err_msg=f"entry {entry}")
            images_seen += 1

    observation, _ = env.reset()
    compare(observation, 0)
    for step, action in enumerate(recording.actions):
        before = observation
        observation, reward, terminated, truncated, _ = env.step(action)
        assert type(reward) is float and reward == recording.rewards[step], f"step {step}"
        assert terminated is bool(recording.done[step]) and truncated is False, f"step {step}"
        assert env._lab.num_steps() == recording.num_steps[step]
        if terminated:
            for name, value in before.items():
                np.testing.assert_array_equal(observation[name], value)
            observation, _ = env.reset()
        compare(observation, step + 1)
    env.close()
    assert images_seen >= 5 or deepmind_lab.is_real


def test_the_recordings_hold_an_end_a_reward_and_changing_instructions():
    from dmlab_recordings import Recording  # In conftest.py.

    assert Recording(SHORT).done.any() and Recording(SHORT).rewards.any()
    assert len(set(Recording(WITH_INSTRUCTIONS).instructions)) > 1


def test_the_engine_gets_what_it_got_in_the_recordings(recording: Any, engines: list[Any], tmp_path: Path):
    dataset_path = recording.config.get("datasetPath", "")
    assert engine_level(recording.name) == recording.level
    assert engine_config(recording.name, dataset_path) == recording.config
    env = LabLevel(recording.name, dataset_path=dataset_path)
    env.reset(seed=0)
    env.step(0)
    (engine,) = engines
    assert engine.args == (recording.level, ["RGB_INTERLEAVED", "INSTR"], recording.config)
    folder = Path(engine.options.pop("temp_folder"))
    assert engine.options == {"renderer": "software", "level_cache": None} and folder.is_dir()
    np.testing.assert_array_equal(ACTIONS, recording.action_set)
    env.close()
    assert not folder.exists()


@pytest.mark.parametrize("given, used", [(None, "0"), ("3", "3")])
def test_mesa_draws_without_threads_of_its_own_unless_told_otherwise(given: str | None, used: str, monkeypatch):
    monkeypatch.setenv("LP_NUM_THREADS", given or "")
    if given is None:
        monkeypatch.delenv("LP_NUM_THREADS")
    LabLevel(LEVEL).reset(seed=0)
    assert os.environ["LP_NUM_THREADS"] == used


def test_any_level_is_evaluated_with_seeds_for_testing(engines: list[Any]):
    for options in ({}, {"dmlab_test": True}):
        environment = environments.make(f"dmlab/{LEVEL}", 1, 0, render=True, **options)
        output = environment.reset()
        np.testing.assert_array_equal(environment.render(), output.observation["image"][0])
        environment.close()
    training, testing = (engine.args[2] for engine in engines)
    assert testing == training | {"allowHoldOutLevels": "true", "mixerSeed": "1611489005"} != training
    assert testing == training | dict(dmlab._TEST_SETTINGS)


def test_actions_are_as_the_engine_reads_them(engines: list[Any]):
    env = LabLevel(LEVEL)
    env.reset(seed=0)
    for action in [*range(9), np.int64(8)]:
        env.step(action)  # type: ignore[arg-type]
    low, high = np.array([(s["min"], s["max"]) for s in engines[0].action_spec()]).T
    for action, (vector, num_steps) in enumerate(engines[0].steps):
        np.testing.assert_array_equal(vector, ACTIONS[min(action, 8)])
        assert vector.shape == (7,) and vector.dtype == np.intc and vector.flags.c_contiguous and num_steps == 4
        assert (low <= vector).all() and (vector <= high).all()
    for wrong in (-1, 9, 1.0, None):
        with pytest.raises(ValueError, match=r"actions must lie in \[0, 9\)"):
            env.step(wrong)  # type: ignore[arg-type]
    env.close()


def test_no_engine_before_the_first_reset(engines: list[Any]):
    env = LabLevel(LEVEL)
    spec = environments.spec(f"dmlab/{LEVEL}")
    assert (spec.num_actions, spec.frames_per_step, spec.frame_stack) == (9, 4, False)
    assert len(set(spec.action_names)) == 9 and spec.action_names[6] == "forward left"
    assert env.action_space.n == spec.num_actions and env.metadata["frames_per_step"] == spec.frames_per_step
    assert isinstance(env.observation_space, gymnasium.spaces.Dict)
    assert spec.observation == {
        name: ArraySpec(space.shape, space.dtype)  # type: ignore[arg-type]
        for name, space in env.observation_space.items()
    }
    check(LEVEL)
    with pytest.raises(ResetNeeded):
        env.step(0)
    env.close()
    assert not engines
    env.reset(seed=0)
    assert len(engines) == 1
    env.close()
    with pytest.raises(ResetNeeded):
        env.step(0)


def test_every_episode_has_a_seed_of_its_own_and_the_same_again(engines: list[Any]):
    def seeds(seed: int | None) -> list[int]:
        env = LabLevel(LEVEL)
        for episode in range(4):
            env.reset(seed=seed if episode == 0 else None)
        env.close()
        return engines[-1].seeds

    first, again, other, unseeded, unseeded_too = seeds(1), seeds(1), seeds(2), seeds(None), seeds(None)
    assert first == again
    all_seeds = [*first, *other, *unseeded, *unseeded_too]
    assert len(set(all_seeds)) == 20 - 4
    assert all(type(seed) is int and 0 <= seed < 2**31 - 1 for seed in all_seeds)


def test_the_same_seed_gives_the_same_episodes_whatever_was_played_before(engines: list[Any]):
    env = LabLevel(LEVEL)
    played = []
    for _ in range(2):
        observation, _ = env.reset(seed=7)
        played.append([observation, *(env.step(t % 9) for t in range(5)), env.reset()[0]])
    np.testing.assert_equal(played[0], played[1])
    assert len(engines) == 2 and engines[0].closed
    env.close()


def test_an_end_needs_a_reset():
    env = LabLevel(SHORT)
    env.reset(seed=0)
    steps = 1
    while not env.step(8)[2]:
        steps += 1
    assert steps <= 180  # The level's clock: 720 frames.
    with pytest.raises(ResetNeeded):
        env.step(0)
    env.reset()
    assert not env.step(0)[2]
    env.close()


def test_gymnasiums_own_checks():
    env = LabLevel(WITH_INSTRUCTIONS)
    check_env(env, skip_render_check=True)
    env.close()


def test_an_instance_in_a_process_of_its_own():
    here = environments.make(f"dmlab/{SHORT}", 1, seed=3)
    pool = WorkerPool(here.spec, [f"dmlab/{SHORT}"], {}, seed=3, deadline=120.0, restart=False)
    there = Lockstep(pool, 120.0, pool.close)
    np.testing.assert_equal(there.reset(), here.reset())
    for t in range(5):
        np.testing.assert_equal(there.step(np.array([t])), here.step(np.array([t])))
    there.close()
    here.close()


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


def test_all_known_levels_are_where_lab_has_them():
    dmlab30 = [name for name in LEVELS if engine_level(name) != name]
    assert len(set(LEVELS)) == 33 and set(LEVELS) - set(dmlab30) == {"seekavoid_arena_01"}
    assert engine_level("contributed/psychlab/harlow") == "contributed/psychlab/harlow"
    for name in LEVELS:
        check(name, dataset_path="dummy")
        check(engine_level(name), dataset_path="dummy")


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
    with pytest.raises(UserError, match=r"installed but cannot be imported: .*(libOSMesa|no_such_module_there)"):
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


def test_maps_are_compiled_once(tmp_path: Path):
    folder = tmp_path / "maps"
    make = functools.partial(LabLevel, WITH_INSTRUCTIONS, level_cache=str(folder))
    first = make()
    kept, _ = first.reset(seed=5)
    maps = {file: (file.read_bytes(), file.stat().st_ino) for file in folder.iterdir()}
    assert maps
    second = make()
    observation, _ = second.reset(seed=5)
    np.testing.assert_equal(observation, kept)
    assert maps == {file: (file.read_bytes(), file.stat().st_ino) for file in folder.iterdir()}
    first.close()
    second.close()


def test_a_torn_map_is_compiled_again(tmp_path: Path):
    make = functools.partial(LabLevel, WITH_INSTRUCTIONS, level_cache=str(tmp_path))
    env = make()
    env.reset(seed=5)
    env.close()
    maps = {file: file.read_bytes() for file in tmp_path.iterdir()}
    for file, content in maps.items():
        file.write_bytes(content[: len(content) // 2])
    process = multiprocessing.get_context("spawn").Process(target=_reset, args=(make,))
    process.start()  # An engine that believed it would end its process.
    process.join(120)
    assert process.exitcode == 0
    assert [file.stat().st_size for file in maps] == [len(content) for content in maps.values()]


def _reset(make: Any) -> None:
    env = make()
    env.reset(seed=5)
    env.close()


def test_a_cache_that_cannot_be_written_to(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"level cache .* cannot be written to: Not a directory"):
        check(LEVEL, level_cache=str(tmp_path / "file" / "maps"))


def test_no_tensorflow_is_loaded():
    code = "import sys; from impala_tf.environments import dmlab; print('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"

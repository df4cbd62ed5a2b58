"""DeepMind Lab, compared with recordings of the real module; conftest.py chooses the module under test."""

from __future__ import annotations

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
from impala_tf.structures import ArraySpec

pytestmark = pytest.mark.usefixtures("deepmind_lab")

LEVEL, WITH_INSTRUCTIONS, SHORT = "rooms_watermaze", "language_select_located_object", "rooms_select_nonmatching_object"


class Seeds:
    """Replaces an environment's random generator; draws these seeds."""

    def __init__(self, seeds: list[int]):
        self._seeds = iter(seeds)

    def integers(self, high: int) -> np.int64:
        return np.int64(next(self._seeds))


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


def test_all_known_levels_are_where_lab_has_them():
    dmlab30 = [name for name in LEVELS if engine_level(name) != name]
    assert len(set(LEVELS)) == 33 and set(LEVELS) - set(dmlab30) == {"seekavoid_arena_01"}
    assert engine_level("contributed/psychlab/harlow") == "contributed/psychlab/harlow"
    for name in LEVELS:
        check(name, dataset_path="dummy")
        check(engine_level(name), dataset_path="dummy")


def test_no_tensorflow_is_loaded():
    code = "import sys; from impala_tf.environments import dmlab; print('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"

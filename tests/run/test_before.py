"""Runs, checkpoints and SavedModels of the version before the restructuring: they are resumed, exported and evaluated.

before_restructuring/README.md says how they were made.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil

import numpy as np
import pandas as pd
import pytest

from impala_tf import environments
from impala_tf.export.saved_model import METADATA, SavedPolicy
from impala_tf.structures import AgentInput, agent_input

BEFORE = pathlib.Path(__file__).parent / "before_restructuring"
SETTINGS = ("--env=catch", "--batch_size=8", "--learning_rate=0.003", "--num_actors=1")
FRAMES, LEARNER_STEP = 20_000, 125
BATCH = 8 * 20


@pytest.fixture
def logdir(tmp_path):
    """A copy of the old run's folder."""
    return shutil.copytree(BEFORE / "run", tmp_path / "run")


def test_a_run_is_resumed(start, logdir, resumed_at, frames_saved):
    run = start(*SETTINGS, f"--logdir={logdir}", "--total_frames=22000", "--log_interval=0.1")
    assert run.finish(120) == 0, run.describe()
    assert run.err == "", run.describe()
    assert resumed_at(run) == (FRAMES, LEARNER_STEP)

    end = FRAMES + -(-2000 // BATCH) * BATCH
    old, new = ((folder / "progress.csv").read_text().splitlines() for folder in (BEFORE / "run", logdir))
    assert new[: len(old)] == old  # The same columns, and what was logged stays.
    rows = pd.read_csv(logdir / "progress.csv")
    assert rows["frames"].iloc[-1] == end == frames_saved(logdir)[-1]
    for column in ("time", "seconds", "frames", "episodes"):
        assert (rows[column].diff().iloc[1:] > 0).all(), rows[column]
    assert rows["episodes"].iloc[-1] - rows["episodes"].iloc[len(old) - 2] <= 2100 / 9
    assert (rows["mean_length_100"] == 9).all()
    # The schedule was stretched to 22,000 frames, of which at least 20,000 are over.
    assert rows["learning_rate"].iloc[-1] < 0.003 * 2000 / 22_000
    saved, now = (json.loads((folder / "config.json").read_text()) for folder in (BEFORE / "run", logdir))
    assert set(saved) <= set(now)


def test_settings_that_shape_learning_must_be_the_same(start, error_of, logdir):
    error = error_of(start("--env=catch", "--num_actors=1", f"--logdir={logdir}"), 15)
    assert "--batch_size: 8 there, 32 now" in error and "--learning_rate: 0.003 there, 0.0006 now" in error
    assert "--unroll_length" not in error


def test_a_checkpoint_is_exported(start, logdir, tmp_path):
    """The result is equal to the SavedModel that the old version exported."""
    done = start(f"--logdir={logdir}", f"--output={tmp_path / 'model'}", command=("-m", "run.export"))
    assert done.finish(60) == 0 and done.err == "", done.describe()
    old, new = SavedPolicy(str(BEFORE / "saved_model")), SavedPolicy(str(tmp_path / "model"))

    random = np.random.default_rng(0)
    inputs = AgentInput(
        observation=random.random((64, 10, 5), np.float32),
        last_reward=random.normal(size=64).astype(np.float32),
        last_action=random.integers(3, size=64).astype(np.int32),
        episode_start=random.random(64) < 0.1,
    )
    before, now = old.step(inputs, old.initial_state(64)), new.step(inputs, new.initial_state(64))
    np.testing.assert_allclose(now.logits, before.logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(now.value, before.value, rtol=1e-5, atol=1e-6)
    assert before.logits.std() > 0.01 and before.value.std() > 0.01  # Not all the same.

    metadata = json.loads((BEFORE / "saved_model" / METADATA).read_text())
    assert (metadata["frames"], metadata["learner_step"]) == (FRAMES, LEARNER_STEP)
    for key in set(metadata) - {"settings", "versions"}:
        assert new.metadata[key] == metadata[key], key
    assert metadata["settings"].items() <= new.metadata["settings"].items()


def test_a_saved_model_is_evaluated(start, tmp_path):
    """The result has what the old version's had; the episodes' seeds are others."""
    output = tmp_path / "evaluation.json"
    flags = (f"--saved_model={BEFORE / 'saved_model'}", "--episodes=20", "--seed=7", f"--output={output}")
    done = start(*flags, command=("-m", "run.evaluate"))
    assert done.finish(60) == 0 and done.err == "", done.describe()
    expected, result = json.loads((BEFORE / "evaluation.json").read_text()), json.loads(output.read_text())
    assert expected["tasks"]["catch"].keys() <= result["tasks"]["catch"].keys()
    for key in ("env", "policy", "seed", "protocol"):
        assert result[key] == expected[key]
    assert expected["model"].items() <= result["model"].items()


def test_a_saved_model_plays_the_same_episodes():
    """With the old version's seeds, every episode is equal to its own."""
    policy = SavedPolicy(str(BEFORE / "saved_model"))
    for episode in json.loads((BEFORE / "evaluation.json").read_text())["tasks"]["catch"]["episodes"]:
        random = np.random.default_rng(episode["seed"])  # The environment's seed, too, at that time.
        with contextlib.closing(environments.make("catch", 1, episode["seed"], autoreset=False)) as environment:
            output, action = environment.reset(), np.zeros(1, np.int32)
            while not output.episode_length[0]:
                logits = policy.step(agent_input(output, action), {}).logits
                action = np.argmax(logits[0] + random.gumbel(size=3), keepdims=True).astype(np.int32)
                output = environment.step(action)
        assert (output.episode_return[0], output.episode_length[0]) == (episode["return"], episode["length"])

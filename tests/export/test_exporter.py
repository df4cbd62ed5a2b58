"""Agents as SavedModels: equal to the agent, usable without impala_tf, written completely or not at all."""

import dataclasses
import json
import logging
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import config as config_lib
from impala_tf.environments import instructions, task_set
from impala_tf.environments.task_set import TaskSet
from impala_tf.errors import UserError
from impala_tf.export import of_run
from impala_tf.export import spec as spec_json
from impala_tf.export.exporter import Exporter, export
from impala_tf.export.saved_model import METADATA, SavedPolicy, observation_names
from impala_tf.learning.learner import Learner
from impala_tf.networks.agent import make_agent
from impala_tf.records.checkpoint import Checkpointer
from impala_tf.records.logdir import LogDir
from impala_tf.structures import AgentInput, ArraySpec, EnvironmentSpec

UINT8, FLOAT32 = np.dtype(np.uint8), np.dtype(np.float32)
SPECS = {
    "stacked": EnvironmentSpec(ArraySpec((84, 84, 4), UINT8), 6, 4, frame_stack=True),
    "vector": EnvironmentSpec(ArraySpec((5,), FLOAT32), 4, 1, action_names=("a", "b", "c", "d")),
    "instruction": EnvironmentSpec(
        {"image": ArraySpec((56, 56, 3), UINT8), "instruction": instructions.SPEC}, num_actions=7, frames_per_step=1
    ),
}


def make_config(**values) -> config_lib.Config:
    return config_lib.from_values({"env": "catch", **values})


def make_tasks(spec: EnvironmentSpec) -> TaskSet:
    """Tasks whose environments have this spec."""
    return dataclasses.replace(task_set.resolve(make_config().environment), spec=spec)


def random_inputs(spec: EnvironmentSpec, batch_size: int, seed: int) -> AgentInput:
    random = np.random.default_rng(seed)

    def array(part: ArraySpec) -> np.ndarray:
        if part.dtype == UINT8:
            return random.integers(256, size=(batch_size, *part.shape)).astype(np.uint8)
        if part.dtype == FLOAT32:
            return random.normal(size=(batch_size, *part.shape)).astype(np.float32)
        words = random.integers(instructions.HASH_BUCKETS, size=(batch_size, *part.shape))
        return np.where(np.arange(part.shape[0]) < 5, words, instructions.NO_WORD).astype(np.int32)

    observation = spec.observation
    seen = {k: array(v) for k, v in observation.items()} if isinstance(observation, dict) else array(observation)
    return AgentInput(
        observation=seen,
        last_reward=random.normal(size=batch_size).astype(np.float32),
        last_action=random.integers(spec.num_actions, size=batch_size).astype(np.int32),
        episode_start=random.random(batch_size) < 0.3,
    )


@pytest.fixture(scope="module", params=[("stacked", "none"), ("vector", "lstm"), ("instruction", "lstm")], ids="-".join)
def exported(request, tmp_path_factory):
    """(spec, agent, its SavedModel)."""
    name, core = request.param
    config = make_config(core=core, seed=3)
    spec = SPECS[name]
    agent = make_agent(spec, config)
    output = tmp_path_factory.mktemp("models") / "agent"
    Exporter(make_tasks(spec), make_config(core=core, seed=4)).write(output, agent, 8, 2)
    return spec, agent, output


@pytest.mark.parametrize("batch_size", [1, 5])
def test_steps_like_the_agent(exported, batch_size):
    """Compares several successive steps with episode starts; the core state is fed back."""
    spec, agent, output = exported
    policy = SavedPolicy(str(output))
    ours, theirs = policy.initial_state(batch_size), agent.initial_state(batch_size)
    for name, leaf in zip(ours, tf.nest.flatten(theirs)):
        np.testing.assert_array_equal(ours[name], leaf)
    for seed in range(4):
        inputs = random_inputs(spec, batch_size, seed)
        answer = policy.step(inputs, ours)
        expected, theirs = agent.step(tf.nest.map_structure(tf.convert_to_tensor, inputs), theirs)
        ours = answer.core_state
        np.testing.assert_allclose(answer.logits, expected.logits, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(answer.value, expected.value, rtol=1e-4, atol=1e-5)
        assert len(ours) == len(tf.nest.flatten(theirs))
        for leaf, reference in zip(ours.values(), tf.nest.flatten(theirs)):
            np.testing.assert_allclose(leaf, reference, rtol=1e-4, atol=1e-5)


def test_sampled_and_greedy_actions(exported):
    """Sampled actions follow the softmax; greedy actions are its mode."""
    spec, _, output = exported
    step = tf.saved_model.load(str(output)).signatures["step"]
    inputs = random_inputs(spec, 1, 0)
    repeated = tf.nest.map_structure(lambda x: np.repeat(x, 4000, axis=0), inputs)
    policy = SavedPolicy(str(output))
    answer = step(
        **{name: tf.constant(x) for name, x in observation_names(repeated.observation).items()},
        last_action=tf.constant(repeated.last_action),
        last_reward=tf.constant(repeated.last_reward),
        episode_start=tf.constant(repeated.episode_start),
        **{name: tf.constant(x) for name, x in policy.initial_state(4000).items()},
    )
    probabilities = tf.nn.softmax(answer["logits"][0]).numpy()
    drawn = np.bincount(answer["action"], minlength=spec.num_actions) / 4000
    np.testing.assert_allclose(drawn, probabilities, atol=0.04)
    assert set(answer["greedy_action"].numpy()) == {int(np.argmax(probabilities))}
    assert answer["action"].dtype == answer["greedy_action"].dtype == tf.int32


def test_a_bfloat16_agent_is_exported_in_float32(tmp_path):
    spec, config = SPECS["stacked"], make_config(precision="bfloat16")
    agent = make_agent(spec, config)
    Exporter(make_tasks(spec), config).write(tmp_path / "agent", agent, 0, 0)
    full = make_agent(spec, make_config())
    for mine, its in zip(full.trainable_variables, agent.trainable_variables):
        mine.assign(its)
    inputs = random_inputs(spec, 2, 0)
    answer = SavedPolicy(str(tmp_path / "agent")).step(inputs, {})
    np.testing.assert_allclose(answer.logits, full.step(inputs, ())[0].logits, rtol=1e-4, atol=1e-5)


PLAIN = """
import sys
sys.modules["impala_tf"] = None  # From here on it cannot be imported.
import tensorflow as tf
policy = tf.saved_model.load(sys.argv[1])
state = policy.signatures["initial_state"](batch_size=tf.constant(3))
answer = policy.signatures["step"](
    observation=tf.zeros([3, 5]), last_action=tf.zeros([3], tf.int32), last_reward=tf.zeros([3]),
    episode_start=tf.zeros([3], tf.bool), **state)
print(sorted(answer), answer["action"].shape, answer["core_state_1"].shape)
"""


@pytest.mark.slow(12)
def test_loads_without_impala_tf(tmp_path):
    spec, config = SPECS["vector"], make_config(core="lstm")
    Exporter(make_tasks(spec), config).write(tmp_path / "agent", make_agent(spec, config), 0, 0)
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, str(tmp_path / "agent")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    names = ["action", "core_state_0", "core_state_1", "greedy_action", "logits", "value"]
    assert done.stdout.split("\n")[-2] == f"{names} (3,) (3, 256)"


def test_metadata(exported):
    spec, _, output = exported
    metadata = json.loads((output / METADATA).read_text())
    assert (metadata["frames"], metadata["learner_step"], metadata["tasks"]) == (8, 2, ["catch"])
    assert metadata["num_actions"] == spec.num_actions and metadata["action_names"] == list(spec.action_names)
    assert metadata["preprocessing"]["frames_per_step"] == spec.frames_per_step
    assert metadata["settings"]["core"] in ("none", "lstm")
    assert set(metadata["environment_options"]) == {
        "full_action_set",
        "sticky_actions",
        "fire_on_reset",
        "life_loss_ends_episode",
        "max_frames_per_episode",
    }


def test_an_existing_folder_is_not_overwritten(tmp_path):
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "mine").write_text("")
    spec, config = SPECS["vector"], make_config()
    with pytest.raises(UserError, match="exists already"):
        Exporter(make_tasks(spec), config).write(tmp_path / "agent", make_agent(spec, config), 0, 0)
    assert [path.name for path in tmp_path.rglob("*")] == ["agent", "mine"]


def test_nothing_is_left_if_writing_fails(tmp_path, monkeypatch):
    """The metadata is written last."""
    spec, config = SPECS["vector"], make_config()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("impala_tf.export.exporter.write_json", fail)
    with pytest.raises(OSError, match="No space"):
        Exporter(make_tasks(spec), config).write(tmp_path / "agent", make_agent(spec, config), 0, 0)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def run_folder(tmp_path) -> LogDir:
    """The folder of a run with two checkpoints."""
    from impala_tf.environments import catch

    config = config_lib.from_values({"env": "catch", "logdir": str(tmp_path / "run")})
    logdir = LogDir(config.run.logdir)
    logdir.prepare(config)
    learner = Learner(make_agent(catch.CatchEnvironment.spec, config), config, 1)
    checkpointer = Checkpointer(logdir.checkpoints, 3, learner=learner)
    for frames in (100, 200):
        learner.step_count.assign(frames // 10)
        for variable in learner.agent.trainable_variables:
            variable.assign(tf.fill(variable.shape, frames / 10_000))
        checkpointer.save(frames, {})
    return logdir


def test_the_newest_checkpoint_is_exported(run_folder, tmp_path):
    checkpoint = export(run_folder, tmp_path / "new" / "agent")
    assert checkpoint == run_folder.checkpoints / f"{200:012d}"
    policy = SavedPolicy(str(tmp_path / "new" / "agent"))
    assert (policy.metadata["frames"], policy.metadata["learner_step"]) == (200, 20)
    parameters = tf.saved_model.load(str(tmp_path / "new" / "agent")).parameters
    assert {float(x) for p in parameters for x in np.unique(p)} == {np.float32(0.02)}


def test_a_damaged_checkpoint_is_skipped_and_left_in_place(run_folder, tmp_path, caplog):
    data = next((run_folder.checkpoints / f"{200:012d}").glob("variables.data*"))
    data.write_bytes(data.read_bytes()[:100])
    export(run_folder, tmp_path / "agent")
    (record,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert record.name.startswith("impala_tf.") and f"{200:012d} is damaged" in record.getMessage()
    assert SavedPolicy(str(tmp_path / "agent")).metadata["frames"] == 100
    assert len(list(run_folder.checkpoints.iterdir())) == 2  # The run may still be in progress.


@pytest.mark.parametrize("name", SPECS)
def test_specs_as_json(name):
    written = json.loads(json.dumps(spec_json.as_json(SPECS[name])))
    assert spec_json.from_json(written) == SPECS[name]
    with pytest.raises((KeyError, TypeError, AttributeError)):
        spec_json.from_json({**written, "observation": None})


def test_no_environment_is_made_for_an_export(run_folder, tmp_path, monkeypatch):
    """A run is exported on machines that lack its environment, such as DeepMind Lab."""
    spec = SPECS["vector"]
    config = config_lib.from_values({"env": "dmlab/rooms_watermaze", "logdir": str(tmp_path / "lab")})
    logdir = LogDir(config.run.logdir)
    logdir.prepare(config)
    agent = make_agent(spec, config)
    checkpointer = Checkpointer(logdir.checkpoints, 3, learner=Learner(agent, config, 4))
    checkpointer.save(300, {"spec": spec_json.as_json(spec)})
    monkeypatch.setattr("impala_tf.environments.make", None)
    export(logdir, tmp_path / "agent")
    policy = SavedPolicy(str(tmp_path / "agent"))
    assert policy.metadata["tasks"] == ["dmlab/rooms_watermaze"] and policy.metadata["num_actions"] == 4
    inputs = random_inputs(spec, 2, 0)
    expected, _ = agent.step(inputs, ())
    np.testing.assert_allclose(policy.step(inputs, {}).logits, expected.logits, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="catch cannot be made"):  # Of a version that did not save the spec.
        export(run_folder, tmp_path / "other")


def test_the_export_in_the_runs_folder_is_made_once(run_folder, caplog):
    """And again if it is damaged, or if there is a newer checkpoint."""
    assert of_run.find(run_folder) is None
    model = of_run.make(run_folder)
    assert model == run_folder.exports / f"{200:012d}" == of_run.find(run_folder)
    written = (model / "saved_model.pb").stat().st_mtime_ns
    assert of_run.make(run_folder) == model and (model / "saved_model.pb").stat().st_mtime_ns == written

    (model / "saved_model.pb").unlink()
    assert of_run.find(run_folder) is None and of_run.make(run_folder) == model == of_run.find(run_folder)
    assert sorted(path.name for path in run_folder.exports.iterdir()) == [model.name, f"damaged-{model.name}"]
    assert f"{model} is damaged and now called damaged-" in caplog.text

    (run_folder.checkpoints / f"{200:012d}").rename(run_folder.checkpoints / f"{300:012d}")
    assert of_run.find(run_folder) is None


def test_the_export_of_an_older_checkpoint_has_its_frames(run_folder):
    """If the newest checkpoint is damaged."""
    data = next((run_folder.checkpoints / f"{200:012d}").glob("variables.data*"))
    data.write_bytes(data.read_bytes()[:100])
    model = of_run.make(run_folder)
    assert model.name == f"{100:012d}" and SavedPolicy(str(model)).metadata["frames"] == 100
    assert of_run.make(run_folder) == model


def test_no_checkpoint(tmp_path):
    with pytest.raises(UserError, match="no run"):
        LogDir(str(tmp_path / "none")).read_config()
    config = config_lib.from_values({"env": "catch", "logdir": str(tmp_path / "run")})
    logdir = LogDir(config.run.logdir)
    logdir.prepare(config)
    with pytest.raises(UserError, match="no checkpoint yet"):
        export(logdir, tmp_path / "agent")
    (tmp_path / "run" / "config.json").write_text(json.dumps({"no_such_setting": 1}))
    with pytest.raises(UserError, match="another version of impala_tf: Unknown setting 'no_such_setting'"):
        logdir.read_config()

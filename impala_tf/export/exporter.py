"""Writes agents as SavedModels; `saved_model` documents the format.

The exported policy computes in float32 and without cuDNN's LSTM, whatever the run uses.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
from typing import Any, NamedTuple

import tensorflow as tf

from impala_tf import __version__
from impala_tf import config as config_lib
from impala_tf.config import Config
from impala_tf.environments import task_set
from impala_tf.environments.task_set import TaskSet
from impala_tf.errors import UserError, one_line
from impala_tf.export import spec as spec_json
from impala_tf.export.saved_model import METADATA, check_output, core_state_names, describe, observation_names
from impala_tf.files import write_json
from impala_tf.networks.agent import Agent, make_agent
from impala_tf.records.checkpoint import read_newest
from impala_tf.records.logdir import LogDir, saved
from impala_tf.structures import AgentInput, EnvironmentSpec

_PREPROCESSING = {
    "atari": "84 x 84 grayscale, area interpolation; pixel-wise maximum of the last two of 4 frames with the same "
    "action; the last 4 of these stacked, oldest first, black before a game's first; uint8, not scaled.",
    "dmlab": "96 x 72 RGB, uint8, not scaled; 4 frames with the same action; instruction as word hashes.",
    "vizdoom": "96 x 72 RGB, reduced from 160 x 120 by area interpolation; uint8, not scaled; 4 frames with the same "
    "action.",
    "minatar": "The game's own 10 x 10 cells, bool, a channel for each kind of object.",
    "minigrid": "56 x 56 RGB of the agent's view, uint8, not scaled; mission as word hashes.",
    "gymnasium": "The environment's own observation: images as uint8, not scaled, vectors as float32.",
}


class Exporter:
    """Writes SavedModels of a run's agent at different times; builds the graph once."""

    def __init__(self, tasks: TaskSet, config: Config):
        """Builds the graph.

        Args:
          tasks: the tasks of the run.
          config: the settings of the run.
        """
        self._tasks, self._config = tasks, config
        spec = tasks.spec
        portable = dataclasses.replace(config.network, precision="float32", lstm_kernel="loop")
        self._agent = make_agent(spec, dataclasses.replace(config, network=portable))
        self._module = tf.Module()
        # Only the variables: a model that contains Keras layers would need Keras to be loaded.
        self._module.parameters = list(self._agent.trainable_variables)
        self._signatures = signatures(self._agent, spec)

    def write(self, output: pathlib.Path, agent: Agent, frames: int, learner_step: int) -> None:
        """Writes a SavedModel atomically: under a temporary name first.

        Args:
          output: the folder to write; must not exist.
          agent: holds the parameters; its precision and LSTM kernel make no difference.
          frames: environment frames after which the agent had these parameters.
          learner_step: learner steps after which the agent had these parameters.

        Raises:
          UserError: the folder exists.
          OSError, tf.errors.OpError: it cannot be written; nothing is left.
        """
        check_output(output)
        for ours, theirs in zip(self._agent.trainable_variables, agent.trainable_variables):
            ours.assign(theirs)
        partial = output.with_name(f".{output.name}.{os.getpid()}")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.parent.mkdir(parents=True, exist_ok=True)
            tf.saved_model.save(self._module, str(partial), signatures=self._signatures)
            (partial / METADATA).parent.mkdir()
            write_json(partial / METADATA, metadata(self._tasks, self._config, frames, learner_step))
            for file in partial.rglob("*"):
                if file.is_file():
                    with open(file, "rb") as opened:
                        os.fsync(opened.fileno())
            partial.rename(output)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


class Loaded(NamedTuple):
    """The agent of a run's checkpoint.

    Attributes:
      checkpoint: the checkpoint's folder.
      agent: holds its parameters.
      tasks, config: of the run.
      learner_step: learner steps after which the agent had these parameters.
    """

    checkpoint: pathlib.Path
    agent: Agent
    tasks: TaskSet
    config: Config
    learner_step: int

    def write(self, output: pathlib.Path) -> None:
        """Writes the agent as a SavedModel.

        Raises:
          UserError: `output` exists or cannot be written.
        """
        try:
            frames = int(self.checkpoint.name)
            Exporter(self.tasks, self.config).write(output, self.agent, frames, self.learner_step)
        except (OSError, tf.errors.OpError) as error:
            reason = getattr(error, "strerror", None) or one_line(error)
            raise UserError(f"{output} cannot be written: {reason}.") from None


def load(logdir: LogDir) -> Loaded:
    """Loads the newest readable checkpoint of a run, which may still be in progress.

    Makes no environment, except for a run of a version that did not save the spec.

    Raises:
      UserError: there is no run or no readable checkpoint.
    """
    config = logdir.read_config()
    if not saved(logdir.checkpoints):
        raise UserError(f"{logdir.path} has no checkpoint yet, so there is nothing to export.")
    tasks = task_set.resolve(config.environment, _spec(logdir))
    agent = make_agent(tasks.spec, config)
    step_count = tf.Variable(0, dtype=tf.int64)
    found = tf.train.Checkpoint(agent=agent, step_count=step_count)

    def read(path: pathlib.Path) -> None:
        status = tf.train.Checkpoint(learner=found).read(str(path / "variables"))
        status.assert_existing_objects_matched().expect_partial()

    path, _ = read_newest(logdir.checkpoints, read)
    if path is None:
        raise UserError(f"The checkpoints in {logdir.checkpoints} have been removed in the meantime.")
    return Loaded(path, agent, tasks, config, int(step_count))


def _spec(logdir: LogDir) -> EnvironmentSpec | None:
    """Returns the spec that the run's newest readable checkpoint holds, None if none does."""
    for checkpoint in saved(logdir.checkpoints):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            return spec_json.from_json(json.loads((checkpoint / "state.json").read_text())["spec"])
    return None


def export(logdir: LogDir, output: pathlib.Path) -> pathlib.Path:
    """Exports the newest readable checkpoint of a run, which may still be in progress.

    Args:
      logdir: the run's folder.
      output: the folder to write; must not exist.

    Returns:
      The folder of the exported checkpoint.

    Raises:
      UserError: there is no run or no readable checkpoint, or `output` cannot be written.
    """
    check_output(output)
    loaded = load(logdir)
    loaded.write(output)
    return loaded.checkpoint


def signatures(agent: Agent, spec: EnvironmentSpec) -> dict[str, Any]:
    """Returns the signatures of an agent's SavedModel; `saved_model` documents their inputs and outputs."""
    core_state = core_state_names(agent.core_state_spec)

    def batched(array: Any, name: str) -> tf.TensorSpec:
        return tf.TensorSpec([None, *array.shape], array.dtype, name)

    inputs = {name: batched(array, name) for name, array in observation_names(spec.observation).items()}
    inputs["last_action"] = tf.TensorSpec([None], tf.int32, "last_action")
    inputs["last_reward"] = tf.TensorSpec([None], tf.float32, "last_reward")
    inputs["episode_start"] = tf.TensorSpec([None], tf.bool, "episode_start")
    inputs |= {name: batched(array, name) for name, array in core_state.items()}

    def initial_state(batch_size: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(zip(core_state, tf.nest.flatten(agent.initial_state(batch_size))))

    def step(**given: tf.Tensor) -> dict[str, tf.Tensor]:
        observation = {key: given[key] for key in observation_names(spec.observation)}
        seen: Any = {key.removeprefix("observation_"): value for key, value in observation.items()}
        if not isinstance(spec.observation, dict):
            seen = given["observation"]
        before = tf.nest.pack_sequence_as(agent.initial_state(1), [given[name] for name in core_state])
        output, core_state_after = agent.step(
            AgentInput(seen, given["last_reward"], given["last_action"], given["episode_start"]), before
        )
        return {
            "action": tf.random.categorical(output.logits, 1, dtype=tf.int32)[:, 0],
            "greedy_action": tf.argmax(output.logits, axis=-1, output_type=tf.int32),
            "logits": output.logits,
            "value": output.value,
            **dict(zip(core_state, tf.nest.flatten(core_state_after))),
        }

    compiled = tf.function(step, autograph=False)
    size = tf.TensorSpec([], tf.int32, "batch_size")
    return {
        "initial_state": tf.function(initial_state, autograph=False).get_concrete_function(batch_size=size),
        "step": compiled.get_concrete_function(**inputs),
    }


def metadata(tasks: TaskSet, config: Config, frames: int, learner_step: int) -> dict[str, Any]:
    """Returns the content of `METADATA`: tasks, spec, settings and versions, JSON-able."""
    spec = tasks.spec
    return {
        "format": 1,
        "tasks": list(tasks.names),
        "observation": describe(spec.observation),
        "num_actions": spec.num_actions,
        "action_names": list(spec.action_names),
        "preprocessing": {
            "description": _PREPROCESSING.get(tasks.names[0].partition("/")[0], "The environment's own observation."),
            "frames_per_step": spec.frames_per_step,
            "frame_stack": spec.frame_stack,
        },
        # Only the options that shape observations and actions; the others depend on the machine.
        "environment_options": {name: value for name, value in tasks.options.items() if name in config_lib.FIXED},
        "learner_step": learner_step,
        "frames": frames,
        "settings": config_lib.to_values(config),
        "versions": {"impala_tf": __version__, "tensorflow": tf.__version__},
    }

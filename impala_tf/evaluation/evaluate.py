"""Evaluates a saved policy on one task, several, or a whole suite."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from impala_tf import __version__, environments, suites
from impala_tf.environments.base import BatchedEnvironment
from impala_tf.environments.remote.lockstep import Lockstep
from impala_tf.environments.remote.pool import WorkerPool
from impala_tf.errors import UserError
from impala_tf.evaluation import episodes, scores, video
from impala_tf.evaluation.episodes import Episode, Moment
from impala_tf.evaluation.protocols import EvaluationProtocol, evaluation_protocol
from impala_tf.evaluation.record import Record, as_json
from impala_tf.export import saved_model
from impala_tf.export.saved_model import SavedPolicy
from impala_tf.files import write_json
from impala_tf.machine import cores
from impala_tf.structures import EnvironmentSpec
from impala_tf.suites import tasks

_LOGGER = logging.getLogger(__name__)

MACHINE_OPTIONS = ("dmlab_renderer", "dmlab_level_cache", "dmlab_dataset_path")
"""Options of `environments.make` that depend on the machine, not on the task: paths and the renderer."""

_REPORT_SECONDS = 10.0
_EPISODES_AT_ONCE = 16
_VIDEO_STEPS_PER_SECOND = 15  # Real time for Atari (60 Hz, 4 frames per step) and about right for the others.


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The settings of an evaluation.

    Attributes:
      saved_model: folder of the SavedModel.
      output: JSON file to write the result to.
      env: like the training flag `--env`; for a suite, its evaluation tasks. Empty: what the agent was trained on.
      episodes: episodes per task; 0: as the protocol says.
      greedy: take the most probable action instead of sampling one, which is what the paper's authors do.
      seed: the seed from which the episodes' seeds are derived.
      num_envs: episodes played at once; 0: 16, or two per core if each environment runs in its own process.
      video: mp4 file to record episode 0 to; empty: none.
      options: the `MACHINE_OPTIONS`.
      deadline: seconds within which an environment in its own process must answer.
    """

    saved_model: str
    output: str
    env: str = ""
    episodes: int = 0
    greedy: bool = False
    seed: int = 1
    num_envs: int = 0
    video: str = ""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    deadline: float = 300.0

    def protocols(self) -> list[EvaluationProtocol]:
        """Returns the protocol of every task. Does not import TensorFlow.

        Raises:
          UserError: there is no SavedModel, `env` names a task twice or an unknown game or level, or no video can be
            written.
        """
        metadata = saved_model.read_metadata(pathlib.Path(self.saved_model))
        names = tasks.names(self.env or metadata["settings"]["env"], test=True)
        found = [evaluation_protocol(name, metadata["environment_options"]) for name in names]
        if self.episodes:
            found = [task._replace(episodes=self.episodes) for task in found]
        for task in found:
            environments.check(task.env_id, **task.options, **self.options)
        if self.video and len(found) > 1:
            raise UserError(f"--video records one task, but there are {len(found)}: choose one with --env.")
        if self.video:
            video.check(pathlib.Path(self.video))
        return found


def run(evaluation: Evaluation, stopped: Callable[[], bool]) -> dict[str, Any] | None:
    """Evaluates a policy and writes the result; resumes an interrupted evaluation.

    Args:
      evaluation: the settings.
      stopped: called many times a second; once it returns True, the evaluation stops and finished episodes are kept for
        the next call.

    Returns:
      The content of the output file, or None if the evaluation was stopped.

    Raises:
      UserError: a setting is invalid, the policy does not fit a task, an environment keeps failing, or a file cannot be
        written.
    """
    protocols = evaluation.protocols()
    path = pathlib.Path(evaluation.saved_model)
    metadata = saved_model.read_metadata(path)
    evaluation = dataclasses.replace(evaluation, env=evaluation.env or metadata["settings"]["env"])
    if len(protocols) > 1:
        _LOGGER.info("checking one environment for each of the %d tasks", len(protocols))
    specs = {}
    for task in protocols:
        specs[task.env_id] = environments.spec(task.env_id, **task.options, **evaluation.options)
        saved_model.check(path, metadata, task.env_id, specs[task.env_id])
    _LOGGER.info("importing TensorFlow")
    policy = SavedPolicy(evaluation.saved_model)
    output = pathlib.Path(evaluation.output)
    header = _header(evaluation, metadata, protocols)
    with Record(output, header) as record:
        for i, task in enumerate(protocols):
            label = task.env_id + (f" ({i + 1} of {len(protocols)})" if len(protocols) > 1 else "")
            _play(evaluation, policy, task, specs[task.env_id], record, label, stopped)
            if stopped():
                return None
        result = {**header, **_results(evaluation.env, protocols, record)}
        try:
            write_json(output, result)
        except OSError as error:
            raise UserError(
                f"--output={output} cannot be written: {error.strerror}. Finished episodes are kept."
            ) from None
        record.remove()
    return result


def _header(evaluation: Evaluation, metadata: dict[str, Any], protocols: list[EvaluationProtocol]) -> dict[str, Any]:
    """Returns the first part of the result: which policy is evaluated, and how."""
    return {
        "saved_model": evaluation.saved_model,
        "model": {key: metadata.get(key) for key in ("tasks", "frames", "learner_step", "versions")},
        "env": evaluation.env,
        "policy": "greedy" if evaluation.greedy else "sampled",
        "seed": evaluation.seed,
        "protocol": {task.env_id: {"episodes": task.episodes, **task.options} for task in protocols},
        "impala_tf": __version__,
    }


def _results(env: str, protocols: list[EvaluationProtocol], record: Record) -> dict[str, Any]:
    """Returns the second part of the result: statistics and episodes by task and, for a suite, its scores."""
    by_task, returns = {}, {}
    for task in protocols:
        played = [record.episodes[task.env_id][number] for number in range(task.episodes)]
        returns[task.env_id] = [episode.episode_return for episode in played]
        found = scores.of_task(task.env_id, returns[task.env_id], [episode.length for episode in played])
        by_task[task.env_id] = {**found, "episodes": [as_json(episode) for episode in played]}
    if env in suites.SUITES:
        return {"suite": scores.of_suite(env, returns), "tasks": by_task}
    return {"tasks": by_task}


def _play(
    evaluation: Evaluation,
    policy: SavedPolicy,
    task: EvaluationProtocol,
    spec: EnvironmentSpec,
    record: Record,
    label: str,
    stopped: Callable[[], bool],
) -> None:
    """Plays those episodes of a task that are not in the record yet."""
    played = record.episodes.get(task.env_id, {})
    numbers = [number for number in range(task.episodes) if number not in played]
    processes = environments.needs_process(task.env_id)
    num_envs = evaluation.num_envs or (2 * cores() if processes else _EPISODES_AT_ONCE)
    progress = _Progress(task, record, label)

    def go_on(steps: int) -> bool:
        progress.tick(steps)
        return not stopped()

    with contextlib.ExitStack() as stack:
        # If episode 0 is in the record already, so is its video on disk.
        recording = stack.enter_context(_video(evaluation, policy, task)) if evaluation.video and 0 in numbers else None

        def make(number: int, seed: int) -> BatchedEnvironment:
            recorded = recording is not None and number == 0
            options = {**task.options, **evaluation.options, "env_threads": 1, "autoreset": False}
            if processes and not recorded:
                pool = WorkerPool(spec, [task.env_id], options, seed, evaluation.deadline, restart=False)
                return Lockstep(pool, evaluation.deadline, pool.close)
            return environments.make(task.env_id, 1, seed, render=recorded, **options)

        def add(episode: Episode) -> None:
            if episode.number == 0:
                stack.close()  # The video is complete.
            record.add(task.env_id, episode)

        episodes.play(
            policy,
            make,
            evaluation.seed,
            numbers,
            max(1, min(num_envs, len(numbers))),
            label=label,
            greedy=evaluation.greedy,
            add=add,
            go_on=go_on,
            watch=functools.partial(_watch, recording) if recording else None,
        )
        if recording and stopped():
            recording.discard()
    progress.report()


class _Progress:
    """Logs the progress on a task."""

    def __init__(self, task: EvaluationProtocol, record: Record, label: str):
        self._task, self._record, self._label = task, record, label
        self._start = self._reported = time.monotonic()
        self._before, self._steps = self._num_played(), 0

    def _num_played(self) -> int:
        return len(self._record.episodes.get(self._task.env_id, ()))

    def tick(self, steps: int) -> None:
        """Reports if the last report is long enough ago; `steps` is the number of agent steps so far."""
        self._steps = steps
        if time.monotonic() - self._reported > _REPORT_SECONDS:
            self.report()

    def report(self) -> None:
        """Logs the number of finished episodes, their mean return, the speed and the time left."""
        self._reported = time.monotonic()
        played, seconds = self._num_played(), self._reported - self._start
        line = f"{played} of {self._task.episodes} episodes"
        if played:
            returns = [episode.episode_return for episode in self._record.episodes[self._task.env_id].values()]
            line += f", mean return {np.mean(returns):.2f}"
        line += f", {self._steps / seconds:,.0f} agent steps/s"
        if self._before < played < self._task.episodes:
            left = seconds / (played - self._before) * (self._task.episodes - played)
            line += f", about {left / 60:.0f} min left" if left > 90 else f", about {left:.0f} s left"
        _LOGGER.info("%s: %s", self._label, line)


def _video(evaluation: Evaluation, policy: SavedPolicy, task: EvaluationProtocol) -> video.Video:
    metadata = policy.metadata
    title = f"{task.env_id}, {metadata['frames'] / 1e6:.3g}M frames"
    return video.Video(
        evaluation.video, title, metadata["action_names"], metadata["num_actions"], _VIDEO_STEPS_PER_SECOND
    )


def _watch(recording: video.Video, moment: Moment) -> None:
    recording.add(moment.environment.render(), *moment[1:])

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
"""Options of `environments.make` that are of this machine: where files are, what draws."""

_REPORT_SECONDS = 10.0
_EPISODES_AT_ONCE = 16
_FILMED_STEPS_PER_SECOND = 15  # An Atari console's 60 frames; others have no speed of their own, or about this.


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What is evaluated, and how.

    Attributes:
      saved_model: folder of the policy.
      output: JSON file of the result.
      env: as `--env` of training; a suite means its tasks to evaluate on. Empty: that of the policy's training.
      episodes: of each task; 0: what the protocol says.
      greedy: takes the most probable action instead of drawing one, as the paper's authors do.
      seed: from which the episodes' seeds come.
      num_envs: episodes that are played at once; 0: 16, or two per core where each has a process.
      video: mp4 file that shows episode 0; empty: none.
      options: of the machine, `MACHINE_OPTIONS`.
      deadline: seconds in which an environment in a process of its own must answer.
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
        """Its tasks, and how each is evaluated. Needs no TensorFlow.

        Raises:
          UserError: there is no such model, `env` names a task twice or an unknown game or level, or no video can be
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
            raise UserError(f"--video shows one task, and there are {len(found)}: choose one by --env.")
        if self.video:
            video.check(pathlib.Path(self.video))
        return found


def run(evaluation: Evaluation, stopped: Callable[[], bool]) -> dict[str, Any] | None:
    """Evaluates and writes the result; resumes an evaluation that was interrupted.

    Args:
      evaluation: what and how.
      stopped: called many times a second; once it returns true, the episodes that have ended are kept for the next
        call.

    Returns:
      What the output holds, or None if it was stopped.

    Raises:
      UserError: something in the settings cannot be used, the policy does not fit a task, an environment fails again
        and again, or something cannot be written.
    """
    protocols = evaluation.protocols()
    path = pathlib.Path(evaluation.saved_model)
    metadata = saved_model.read_metadata(path)
    evaluation = dataclasses.replace(evaluation, env=evaluation.env or metadata["settings"]["env"])
    if len(protocols) > 1:
        _LOGGER.info("checking an environment of each of the %d tasks", len(protocols))
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
            raise UserError(f"--output={output} cannot be written: {error.strerror}. The episodes are kept.") from None
        record.remove()
    return result


def _header(evaluation: Evaluation, metadata: dict[str, Any], protocols: list[EvaluationProtocol]) -> dict[str, Any]:
    """What is evaluated, and how: the first part of the result."""
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
    """Statistics and episodes by task and, of a suite, its scores."""
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
    """Plays the episodes of a task that the record does not have yet."""
    played = record.episodes.get(task.env_id, {})
    numbers = [number for number in range(task.episodes) if number not in played]
    processes = environments.needs_process(task.env_id)
    num_envs = evaluation.num_envs or (2 * cores() if processes else _EPISODES_AT_ONCE)
    progress = _Progress(task, record, label)

    def go_on(steps: int) -> bool:
        progress.tick(steps)
        return not stopped()

    with contextlib.ExitStack() as stack:
        # Where the record has the first episode already, its film is there, too.
        film = stack.enter_context(_video(evaluation, policy, task)) if evaluation.video and 0 in numbers else None

        def make(number: int, seed: int) -> BatchedEnvironment:
            filmed = film is not None and number == 0
            options = {**task.options, **evaluation.options, "env_threads": 1, "autoreset": False}
            if processes and not filmed:
                pool = WorkerPool(spec, [task.env_id], options, seed, evaluation.deadline, restart=False)
                return Lockstep(pool, evaluation.deadline, pool.close)
            return environments.make(task.env_id, 1, seed, render=filmed, **options)

        def add(episode: Episode) -> None:
            if episode.number == 0:
                stack.close()  # The film is complete.
            record.add(task.env_id, episode)

        episodes.play(
            policy,
            make,
            evaluation.seed,
            numbers,
            max(1, min(num_envs, len(numbers))),
            greedy=evaluation.greedy,
            add=add,
            go_on=go_on,
            warn=lambda line: _LOGGER.warning("%s: %s", label, line),
            watch=functools.partial(_watch, film) if film else None,
        )
        if film and stopped():
            film.discard()
    progress.report()


class _Progress:
    """Lines of progress on a task."""

    def __init__(self, task: EvaluationProtocol, record: Record, label: str):
        self._task, self._record, self._label = task, record, label
        self._start = self._reported = time.monotonic()
        self._before, self._steps = self._num_played(), 0

    def _num_played(self) -> int:
        return len(self._record.episodes.get(self._task.env_id, ()))

    def tick(self, steps: int) -> None:
        """Reports if it is time to; `steps`: agent steps so far."""
        self._steps = steps
        if time.monotonic() - self._reported > _REPORT_SECONDS:
            self.report()

    def report(self) -> None:
        """Says how far it is and what the mean return is so far."""
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
        evaluation.video, title, metadata["action_names"], metadata["num_actions"], _FILMED_STEPS_PER_SECOND
    )


def _watch(film: video.Video, moment: Moment) -> None:
    film.add(moment.environment.render(), *moment[1:])

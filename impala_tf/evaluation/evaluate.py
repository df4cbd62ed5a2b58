"""Evaluates a saved policy on one task, several, or a whole suite."""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from impala_tf import environments
from impala_tf.environments.base import BatchedEnvironment
from impala_tf.environments.remote.lockstep import Lockstep
from impala_tf.environments.remote.pool import WorkerPool
from impala_tf.errors import UserError, one_line
from impala_tf.evaluation import episodes, result
from impala_tf.evaluation.episodes import FINAL, Episode, Policy, RandomPolicy, TaskFailed
from impala_tf.evaluation.progress import Progress
from impala_tf.evaluation.protocols import EvaluationProtocol, evaluation_protocol
from impala_tf.evaluation.record import AGENT, RANDOM, Record
from impala_tf.export import saved_model
from impala_tf.export.saved_model import SavedPolicy
from impala_tf.files import write_json
from impala_tf.machine import cores
from impala_tf.processes import imports, parent
from impala_tf.structures import EnvironmentSpec
from impala_tf.suites import tasks

_LOGGER = logging.getLogger(__name__)
_EPISODES_AT_ONCE = 16


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
      purpose: `FINAL` or `IN_TRAINING` of `episodes`; their seeds differ.
      random_policy: also play the same episodes with random actions, and compare.
      num_envs: episodes played at once; 0: 16, or two per core if each environment runs in its own process.
      video: mp4 file to film the first task's first episodes to, or those of the first that works; empty: none.
      options: the `protocols.MACHINE_OPTIONS`.
      deadline: seconds within which an environment in its own process must answer.
      log: file that gets the output of engines, for messages and the film's process; empty: standard error.
    """

    saved_model: str
    output: str
    env: str = ""
    episodes: int = 0
    greedy: bool = False
    seed: int = 1
    purpose: int = FINAL
    random_policy: bool = False
    num_envs: int = 0
    video: str = ""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    deadline: float = 300.0
    log: str = ""

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
        if self.video:
            from impala_tf.evaluation import video  # Needs ffmpeg.

            video.check(pathlib.Path(self.video))
        return found

    def seed_of(self, number: int) -> int:
        """Returns the seed of an episode."""
        return episodes.seed_of(self.seed, number, self.purpose)

    def make_options(self, task: EvaluationProtocol) -> dict[str, Any]:
        """Returns the options of `environments.make` for an episode of a task."""
        return {**task.options, **self.options, "env_threads": 1, "autoreset": False}


def run(
    evaluation: Evaluation, stopped: Callable[[], bool], begin: Callable[[], None] = lambda: None
) -> dict[str, Any] | None:
    """Evaluates a policy, writes the result and makes the film; only what is not there yet from an earlier call.

    If a task of several fails, the others are evaluated all the same, and the result names it; the next call tries it
    again.

    Args:
      evaluation: the settings.
      stopped: called many times a second; once it returns True, the evaluation stops and finished episodes are kept for
        the next call.
      begin: called once, when TensorFlow has been imported and before the first file is written.

    Returns:
      The content of the output file, or None if the evaluation was stopped.

    Raises:
      UserError: a setting is invalid, the policy does not fit a task, the only task fails, or a file cannot be written.
        Finished episodes are kept for the next call.
    """
    protocols = evaluation.protocols()
    path = pathlib.Path(evaluation.saved_model)
    metadata = saved_model.read_metadata(path)
    evaluation = dataclasses.replace(evaluation, env=evaluation.env or metadata["settings"]["env"])
    header = result.header(
        evaluation.saved_model,
        metadata,
        saved_model.digest(path),
        evaluation.env,
        protocols,
        greedy=evaluation.greedy,
        seed=evaluation.seed,
        random_policy=evaluation.random_policy,
    )
    found = result.read(pathlib.Path(evaluation.output), header)
    done = found is not None and not found.get("failed")
    film_is_there = pathlib.Path(evaluation.video).exists() if evaluation.video else True
    if found is None and film_is_there and evaluation.video:
        raise UserError(f"{evaluation.video} exists already: remove it, or choose another --output.")
    if done:
        _LOGGER.info("this evaluation is there already")
        if film_is_there:
            return found
    specs, failed = ({}, {}) if done else _specs(evaluation, protocols, metadata)
    if "tensorflow" not in sys.modules:
        _LOGGER.info("importing TensorFlow")
        with imports.quickly():
            import tensorflow  # noqa: F401
    begin()
    policy = SavedPolicy(evaluation.saved_model)
    if not done:
        found = _evaluate(evaluation, policy, header, protocols, specs, failed, stopped)
    if found is None:
        return None
    played = next(task for task in protocols if task.env_id in found["tasks"])
    return found if film_is_there or _film(evaluation, policy, played, stopped) else None


def _specs(
    evaluation: Evaluation, protocols: list[EvaluationProtocol], metadata: dict[str, Any]
) -> tuple[dict[str, EnvironmentSpec], dict[str, str]]:
    """Returns the specs of the tasks, and those of several that cannot be made with the reasons."""
    if len(protocols) > 1:
        _LOGGER.info("checking one environment for each of the %d tasks", len(protocols))
    specs, failed = {}, {}
    for task in protocols:
        parent.beat()  # Making an environment may take long, and there may be many.
        try:
            specs[task.env_id] = environments.spec(task.env_id, **task.options, **evaluation.options)
        except Exception as error:  # Engines raise many types.
            if len(protocols) == 1:
                raise (
                    error if isinstance(error, UserError) else UserError(f"{task.env_id}: {one_line(error)}")
                ) from None
            failed[task.env_id] = one_line(error)
            _LOGGER.warning("%s cannot be made (%s); the other tasks are evaluated", task.env_id, one_line(error))
        else:
            saved_model.check(pathlib.Path(evaluation.saved_model), metadata, task.env_id, specs[task.env_id])
    return specs, failed


def _evaluate(
    evaluation: Evaluation,
    policy: SavedPolicy,
    header: dict[str, Any],
    protocols: list[EvaluationProtocol],
    specs: Mapping[str, EnvironmentSpec],
    failed: dict[str, str],
    stopped: Callable[[], bool],
) -> dict[str, Any] | None:
    """Plays all tasks and writes the result; returns it, or None if the evaluation was stopped."""
    output = pathlib.Path(evaluation.output)
    where = f" The engine's own output is in {evaluation.log}." if evaluation.log else ""
    with Record(output, header) as record:
        for i, task in enumerate(protocols):
            if task.env_id in failed:
                continue
            label = task.env_id + (f" ({i + 1} of {len(protocols)})" if len(protocols) > 1 else "")
            spec = specs[task.env_id]
            try:
                _play(evaluation, policy, AGENT, task, spec, record, label, stopped)
                if evaluation.random_policy and not stopped():
                    others = RandomPolicy(spec.num_actions)
                    _play(evaluation, others, RANDOM, task, spec, record, f"{label}, random policy", stopped)
            except TaskFailed as error:
                if len(protocols) == 1:
                    raise UserError(f"{error}. Finished episodes are kept.{where}") from None
                failed[task.env_id] = str(error)
                _LOGGER.warning("%s; the other tasks go on.%s", error, where)
            if stopped():
                return None
        whole = [task for task in protocols if task.env_id not in failed]
        if not whole:
            raise UserError(f"None of the {len(protocols)} tasks can be played: {next(iter(failed.values()))}.{where}")
        found = {**header, **result.results(evaluation.env, whole, record, evaluation.random_policy)}
        if failed:
            found["failed"] = {task.env_id: failed[task.env_id] for task in protocols if task.env_id in failed}
        try:
            write_json(output, found)
        except OSError as error:
            raise UserError(
                f"--output={output} cannot be written: {error.strerror}. Finished episodes are kept in {record.path}."
            ) from None
        if not failed:
            record.remove()
    return found


def _play(
    evaluation: Evaluation,
    policy: Policy,
    player: str,
    task: EvaluationProtocol,
    spec: EnvironmentSpec,
    record: Record,
    label: str,
    stopped: Callable[[], bool],
) -> None:
    """Plays those of a player's episodes that are not in the record yet."""
    played = record.episodes(task.env_id, player)
    numbers = [number for number in range(task.episodes) if number not in played]
    if not numbers:
        return
    processes = environments.needs_process(task.env_id)
    num_envs = evaluation.num_envs or (2 * cores() if processes else _EPISODES_AT_ONCE)
    progress = Progress(label, played, task.episodes)
    options = evaluation.make_options(task)

    def go_on(steps: int) -> bool:
        progress.tick(steps)
        return not stopped()

    def make(seed: int) -> BatchedEnvironment:
        if processes:
            pool = WorkerPool(spec, [task.env_id], options, seed, evaluation.deadline, restart=False)
            return Lockstep(pool, evaluation.deadline, pool.close)
        return environments.make(task.env_id, 1, seed, **options)

    def add(episode: Episode) -> None:
        record.add(task.env_id, episode, player)

    episodes.play(
        policy,
        make,
        evaluation.seed_of,
        numbers,
        min(num_envs, len(numbers)),
        label=label,
        greedy=evaluation.greedy and player == AGENT,
        add=add,
        go_on=go_on,
    )
    progress.report()


def _film(evaluation: Evaluation, policy: SavedPolicy, task: EvaluationProtocol, stopped: Callable[[], bool]) -> bool:
    """Makes the film; returns False if the evaluation was stopped."""
    from impala_tf.evaluation import film

    seeds = tuple(evaluation.seed_of(number) for number in range(task.episodes))
    settings = film.Film(
        evaluation.video,
        evaluation.saved_model,
        task.env_id,
        evaluation.make_options(task),
        seeds,
        evaluation.greedy,
        evaluation.deadline,
        evaluation.log,
    )
    return film.make(settings, policy, stopped)

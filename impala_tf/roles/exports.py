"""Exports SavedModels of a run in progress and evaluates them in a process of their own."""

from __future__ import annotations

import contextlib
import json
import logging
import pathlib
import threading
import time

import tensorflow as tf

from impala_tf.config import Config
from impala_tf.environments.task_set import TaskSet
from impala_tf.errors import UserError, one_line
from impala_tf.evaluation import evaluate
from impala_tf.evaluation.episodes import IN_TRAINING
from impala_tf.evaluation.evaluate import Evaluation
from impala_tf.evaluation.protocols import MACHINE_OPTIONS
from impala_tf.export.exporter import Exporter
from impala_tf.networks.agent import Agent
from impala_tf.processes import parent
from impala_tf.processes.child import Child, ChildFailed
from impala_tf.records import csv_file
from impala_tf.records.csv_file import CSVFile
from impala_tf.records.logdir import LogDir

_LOGGER = logging.getLogger(__name__)
_WAIT_SECONDS = 0.25
_REPORT_SECONDS = 10.0


class Exports:
    """Writes <logdir>/exports/<frames> after some of the checkpoints, and evaluates the newest, one at a time.

    Results are in evaluations.csv and TensorBoard, against the frames of the export, and with all their episodes in
    <logdir>/evaluations/<frames>.json; films, if the run wants them, are beside those.
    """

    def __init__(self, config: Config, tasks: TaskSet, logdir: LogDir, frames: int):
        """Finds the exports and evaluations that there are already, and opens the logs.

        Those of later frames, which the run will reach with another agent, are renamed to lost-<frames>.

        Args:
          config: settings of the run.
          tasks: tasks of the run.
          logdir: folder of the run.
          frames: environment frames at which the run starts or resumes.
        """
        self._config, self._tasks, self._logdir = config, tasks, logdir
        self._exporter: Exporter | None = None
        self._export_every = config.run.export_every or config.run.evaluate_every
        self._evaluate_every = config.run.evaluate_every
        _set_aside(logdir.exports, frames)
        _set_aside(logdir.evaluation_results, frames)
        self._exported = _newest(logdir.exports)
        self._evaluated = 0
        self._evaluation: Evaluation | None = None  # The one in progress.
        self._process: Child | None = None
        if self._evaluate_every:
            self._csv = CSVFile(logdir.evaluations, keep_up_to=frames)
            self._evaluated = int(csv_file.last(logdir.evaluations).get("frames", 0))
            self._tensorboard = tf.summary.create_file_writer(str(logdir.tensorboard))

    def add(self, agent: Agent, frames: int, learner_step: int, final: bool) -> None:
        """Exports the agent and starts an evaluation, if they are due. Call it after each checkpoint.

        A failure is logged, and training continues.

        Args:
          agent: the agent to export.
          frames: environment frames so far.
          learner_step: learner steps so far.
          final: whether the run is finished; its last agent is always exported.
        """
        if self._export_every and (final or frames - self._exported >= self._export_every):
            try:
                self._export(agent, frames, learner_step)
            except (OSError, tf.errors.OpError) as error:
                _LOGGER.warning(
                    "The SavedModel at %s frames could not be written (%s). Is the disk full?", f"{frames:,}", error
                )
        if self._evaluate_every and self._exported - self._evaluated >= self._evaluate_every:
            self._start()

    def poll(self) -> None:
        """Passes on the log lines of the evaluation in progress, and logs its result once it has ended."""
        if self._process is None:
            return
        self._process.poll()
        hangs = self._process.hangs(self._config.launch.stall_timeout)
        if self._process.status is None and not hangs:
            return
        assert self._evaluation is not None
        process, self._process = self._process, None
        try:
            if hangs:
                raise ChildFailed(f"there was no sign of life for {process.silence:.0f} s, and it is ended")
            process.answer(0.0)
            self._logdir.check_there()  # It may be another learner's by now.
            self._log(json.loads(pathlib.Path(self._evaluation.output).read_text()))
        except (UserError, ChildFailed, OSError, ValueError) as error:
            self._has_failed(error)
        finally:
            process.end()

    def finish(self, stop: threading.Event) -> None:
        """Evaluates the last export and waits for the result, until `stop` is set or the evaluation hangs."""
        if not self._evaluate_every:
            return
        reported = -_REPORT_SECONDS
        while not stop.is_set() and (self._process or self._exported > self._evaluated):
            self._start()
            if time.monotonic() - reported > _REPORT_SECONDS:
                _LOGGER.info(
                    "evaluating the SavedModel at %s frames; Ctrl-C ends the run without its result",
                    f"{self._evaluated:,}",
                )
                reported = time.monotonic()
            stop.wait(_WAIT_SECONDS)
            self.poll()
            parent.beat()

    def close(self) -> None:
        """Ends an evaluation in progress and closes the logs."""
        if self._process:
            self._process.end()
        if self._evaluate_every:
            self._csv.close()
            self._tensorboard.close()

    def _export(self, agent: Agent, frames: int, learner_step: int) -> None:
        output = self._logdir.exports / f"{frames:012d}"
        if not output.exists():
            self._exporter = self._exporter or Exporter(self._tasks, self._config)
            self._exporter.write(output, agent, frames, learner_step)
        self._exported = frames

    def _start(self) -> None:
        """Starts the evaluation of the newest export, unless one is in progress."""
        if self._process:
            return
        environment, run = self._config.environment, self._config.run
        output = self._logdir.evaluation_results / f"{self._exported:012d}.json"
        self._evaluation = Evaluation(
            str(self._logdir.exports / f"{self._exported:012d}"),
            str(output),
            video=str(output.with_suffix(".mp4")) if run.evaluate_video else "",
            episodes=run.evaluate_episodes,
            seed=run.seed,
            purpose=IN_TRAINING,
            options={name: getattr(environment, name) for name in MACHINE_OPTIONS},
            deadline=environment.env_deadline,
        )
        self._evaluated = self._exported
        try:
            output.parent.mkdir(exist_ok=True)  # Before a film is begun there.
            self._process = Child("evaluation", _evaluate, self._evaluation)
        except (UserError, OSError) as error:  # Too many processes, no memory, a full disk, ...
            self._has_failed(error)

    def _has_failed(self, error: Exception) -> None:
        _LOGGER.warning("The evaluation at %s frames failed: %s", f"{self._evaluated:,}", one_line(error))

    def _log(self, result: dict) -> None:
        frames, rows = self._evaluated, []
        for name, task in result["tasks"].items():
            low, high = task["mean_ci95"] or (None, None)  # A single episode has no interval.
            interval = "one episode" if low is None else f"{low:.2f} to {high:.2f}"
            row = {
                "frames": frames,
                "task": name,
                "episodes": len(task["episodes"]),
                "mean": task["mean"],
                "ci_low": low,
                "ci_high": high,
                "median": task["median"],
                "human_normalised": task["human_normalised"],
            }
            rows.append(row)
            _LOGGER.info("evaluated at %s frames: %s %.2f (%s)", f"{frames:,}", name, task["mean"], interval)
        try:
            self._csv.write(*rows)
            with self._tensorboard.as_default(step=frames):
                for row in rows:
                    for name in ("mean", "median", "human_normalised"):
                        if row[name] is not None:
                            tf.summary.scalar(f"evaluation_{name}/{row['task']}", row[name])
            self._tensorboard.flush()
        except (OSError, tf.errors.OpError) as error:
            _LOGGER.warning(
                "The evaluation at %s frames could not be logged (%s). Is the disk full?", f"{frames:,}", error
            )


def _newest(folder: pathlib.Path) -> int:
    """Returns the largest frame count that names an entry of the folder; 0 if there is none."""
    return max((int(path.stem) for path in folder.glob("*") if path.stem.isdecimal()), default=0)


def _set_aside(folder: pathlib.Path, frames: int) -> None:
    """Renames the entries of later frames than `frames`."""
    for path in [path for path in folder.glob("*") if path.stem.isdecimal() and int(path.stem) > frames]:
        aside = path.with_name(f"lost-{path.name}")
        while aside.exists():
            aside = aside.with_name(f"lost-{aside.name}")
        with contextlib.suppress(OSError):
            path.rename(aside)
            _LOGGER.warning(
                "%s is of %s frames, to which the run was not saved; it is now called %s",
                path,
                f"{int(path.stem):,}",
                aside.name,
            )


def _evaluate(evaluation: Evaluation) -> None:
    """Runs in the evaluation's process; leaves the GPU and all cores but one to training."""
    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    evaluate.run(evaluation, stopped=_never, begin=lambda: parent.send(parent.Ready()))


def _never() -> bool:
    """Called in the loop that plays."""
    parent.beat()
    return False

"""The SavedModels of a run in progress, and their evaluation by a process of its own."""

from __future__ import annotations

import json
import pathlib
import threading
import time
from collections.abc import Callable

import tensorflow as tf

from impala_tf.config import Config
from impala_tf.environments.base import EnvironmentFailed
from impala_tf.processes.child import Hosted
from impala_tf.errors import UserError, one_line
from impala_tf.evaluation import evaluate
from impala_tf.evaluation.evaluate import Evaluation
from impala_tf.export.exporter import Exporter
from impala_tf.networks.agent import Agent
from impala_tf.records.csv_file import CSVFile
from impala_tf.records.logdir import LogDir
from impala_tf.structures import EnvironmentSpec

_WAIT_SECONDS = 0.25
_SAY_SECONDS = 10.0


class Exports:
    """Writes <logdir>/exports/<frames> with some checkpoints, and has the newest evaluated, one at a time.

    What an evaluation finds is in evaluations.csv and TensorBoard, against the frames of the export, and with all its
    episodes in <logdir>/evaluations/<frames>.json.
    """

    def __init__(self, config: Config, logdir: LogDir, spec: EnvironmentSpec, frames: int, say: Callable[[str], None]):
        """
        Args:
          config: of the run.
          logdir: of the run.
          spec: of its environments.
          frames: at which the run starts or resumes.
          say: prints a line on the console.
        """
        self._config, self._logdir, self._spec, self._say = config, logdir, spec, say
        self._exporter: Exporter | None = None
        self._export_every = config.run.export_every or config.run.evaluate_every
        self._evaluate_every = config.run.evaluate_every
        self._exported = _newest(logdir.exports, frames)
        self._evaluated = _newest(logdir.evaluation_results, frames)
        self._evaluation: Evaluation | None = None  # That is under way.
        self._process: Hosted | None = None
        if self._evaluate_every:
            self._csv = CSVFile(logdir.evaluations, keep_up_to=frames)
            self._tensorboard = tf.summary.create_file_writer(str(logdir.tensorboard))

    def add(self, agent: Agent, frames: int, learner_step: int, final: bool) -> None:
        """Exports the agent, of which a checkpoint has just been saved, if it is time to or the run has its frames.

        What goes wrong is said, and training goes on.
        """
        if self._export_every and (final or frames - self._exported >= self._export_every):
            try:
                self._export(agent, frames, learner_step)
            except (OSError, tf.errors.OpError) as error:
                self._say(f"The SavedModel at {frames:,} frames could not be written ({error}). Is the disk full?")
        if self._evaluate_every and self._exported - self._evaluated >= self._evaluate_every:
            self._start()

    def poll(self) -> None:
        """Logs the evaluation under way if it has come to its end."""
        if self._process is None or self._process.process.is_alive():
            return
        assert self._evaluation is not None
        process, self._process = self._process, None
        try:
            process.answer(0.0)
            self._log(json.loads(pathlib.Path(self._evaluation.output).read_text()))
        except (UserError, EnvironmentFailed) as error:
            self._say(f"The evaluation at {self._evaluated:,} frames failed: {one_line(error)}")
        process.end()

    def finish(self, stop: threading.Event) -> None:
        """Has the last export evaluated and waits for that, but no longer than until `stop` is set."""
        if not self._evaluate_every:
            return
        said = -_SAY_SECONDS
        while not stop.is_set() and (self._process or self._exported > self._evaluated):
            self._start()
            if time.monotonic() - said > _SAY_SECONDS:
                self._say(f"evaluating the SavedModel at {self._evaluated:,} frames; Ctrl-C ends the run without")
                said = time.monotonic()
            stop.wait(_WAIT_SECONDS)
            self.poll()

    def close(self) -> None:
        """Gives up an evaluation under way and closes the logs."""
        if self._process:
            self._process.end()
        if self._evaluate_every:
            self._csv.close()
            self._tensorboard.close()

    def _export(self, agent: Agent, frames: int, learner_step: int) -> None:
        output = self._logdir.exports / f"{frames:012d}"
        if not output.exists():
            self._exporter = self._exporter or Exporter(self._spec, self._config)
            self._exporter.write(output, agent, frames, learner_step)
        self._exported = frames

    def _start(self) -> None:
        """Starts the evaluation of the newest export, unless one is under way."""
        if self._process:
            return
        environment, run = self._config.environment, self._config.run
        self._evaluation = Evaluation(
            str(self._logdir.exports / f"{self._exported:012d}"),
            str(self._logdir.evaluation_results / f"{self._exported:012d}.json"),
            episodes=run.evaluate_episodes,
            seed=run.seed,
            options={name: getattr(environment, name) for name in evaluate.MACHINE_OPTIONS},
            deadline=environment.env_deadline,
        )
        self._evaluated = self._exported
        self._process = Hosted(_evaluate, self._evaluation)

    def _log(self, result: dict) -> None:
        frames, rows = self._evaluated, []
        for name, task in result["tasks"].items():
            low, high = task["mean_ci95"]
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
            self._say(f"evaluated at {frames:,} frames: {name} {task['mean']:.2f} ({low:.2f} to {high:.2f})")
        try:
            self._csv.write(*rows)
            with self._tensorboard.as_default(step=frames):
                for row in rows:
                    for name in ("mean", "median", "human_normalised"):
                        if row[name] is not None:
                            tf.summary.scalar(f"evaluation_{name}/{row['task']}", row[name])
            self._tensorboard.flush()
        except (OSError, tf.errors.OpError) as error:
            self._say(f"The evaluation at {frames:,} frames could not be logged ({error}). Is the disk full?")


def _newest(folder: pathlib.Path, frames: int) -> int:
    """The frames of the newest of a folder's entries, named by theirs, that are not past `frames`; 0 without one."""
    found = [int(path.stem) for path in folder.glob("*") if path.stem.isdecimal()]
    return max((number for number in found if number <= frames), default=0)


def _evaluate(evaluation: Evaluation) -> None:
    """The work of the evaluation's process: leaves the GPU and most of the cores to the training."""
    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    evaluate.run(evaluation, say=lambda line: None, stopped=lambda: False)

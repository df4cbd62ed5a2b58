"""impala_tf from Python, for scripts and notebooks: train, see what has come of it, evaluate, and act.

    from impala_tf import api

    run = api.train("runs/catch", setup="catch")
    run.progress().plot("frames", "mean_return_100")
    run.evaluate(episodes=100)["tasks"]["catch"]["mean"]
    agent = run.agent()

Training and evaluation are `impala-train` and `impala-evaluate` in processes of their own, so that the settings, files
and messages are those of the commands. They end when this process ends.
"""

from __future__ import annotations

import json
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from impala_tf.environments import task_set
from impala_tf.environments.base import BatchedEnvironment
from impala_tf.errors import UserError
from impala_tf.experiments import runs
from impala_tf.export import of_run
from impala_tf.export.saved_model import SavedPolicy
from impala_tf.processes.command import Command
from impala_tf.records import csv_file
from impala_tf.records.logdir import LogDir
from impala_tf.structures import AgentInput

_LOOK_SECONDS = 0.1
_END_SECONDS = 60.0  # For a checkpoint, and for the learning curve.


def train(logdir: str, *, setup: str = "", show: bool = True, **settings: Any) -> Run:
    """Trains an agent with `impala-train`, or resumes the run in the folder, and waits for it.

    Interrupting it (Ctrl-C, or a notebook's stop button) ends the run with a checkpoint; the same call resumes it.

    Args:
      logdir: folder of the run.
      setup: settings by name: "cartpole", "catch", "atari_deep"; `impala-train --help` lists them.
      show: whether to print what the command prints.
      **settings: any setting of `impala-train`, such as `env="atari/pong"` or `total_frames=10_000_000` (environment
        frames). They win over those of the setup.

    Raises:
      UserError: a setting is wrong, or the run has failed.
    """
    chosen = {**({"setup": setup} if setup else {}), **settings, "logdir": logdir}
    log = pathlib.Path(logdir, "logs", runs.OUTPUT)
    _run("train", [runs.flag(name, value) for name, value in chosen.items()], log, show)
    return Run(logdir)


class Run:
    """A run's folder, whoever has trained it; it may still be in training.

    Attributes:
      path: the folder.
    """

    def __init__(self, logdir: str):
        """Opens the folder.

        Raises:
          UserError: there is no run in it.
        """
        self._logdir = LogDir(logdir)
        self._logdir.read_config()
        self.path = pathlib.Path(logdir)

    @property
    def frames(self) -> int:
        """Environment frames in the newest checkpoint; 0 if there is none."""
        return self._logdir.frames

    @property
    def settings(self) -> dict[str, Any]:
        """All settings, by name."""
        return self._logdir.read_settings()

    def progress(self, tasks: bool = False) -> Any:
        """Returns the log as a pandas DataFrame.

        Args:
          tasks: whether to return tasks.csv, with a row for each task, instead of progress.csv.

        Raises:
          UserError: there is no such log yet, or it is damaged.
        """
        file = self._logdir.tasks if tasks else self._logdir.progress
        rows = csv_file.read(file)
        if rows is None:
            raise UserError(f"There is no {file} yet.")
        return rows

    def evaluate(self, *, output: str = "", show: bool = True, **options: Any) -> dict[str, Any]:
        """Evaluates the newest checkpoint with `impala-evaluate`, and waits for it.

        Args:
          output: file for the result; "": in the run's folder, named by the checkpoint's frames and the options.
          show: whether to print what the command prints.
          **options: of `impala-evaluate`: `episodes=10`, `greedy=True`, `random_policy=True`, `video=True`, `env`,
            `seed`. The film is beside the result.

        Returns:
          The result: `["tasks"][<env>]["mean"]`, and what else docs/evaluation.md names; its file as `["path"]`.

        Raises:
          UserError: there is no checkpoint, an option is wrong, or the evaluation has failed.
        """
        if not self.frames:
            raise UserError(f"{self.path} has no checkpoint yet.")
        described = (f"-{name}_{value}" for name, value in options.items() if name != "video")
        name = f"{self.frames:012d}{''.join(described)}".replace("/", "_")
        result = pathlib.Path(output or self._logdir.evaluation / f"{name}.json")
        chosen = {"logdir": self.path, "output": result, **options}
        _run("evaluate", [runs.flag(*item) for item in chosen.items()], self._logdir.logs / "evaluate.txt", show)
        return {**json.loads(result.read_text()), "path": str(result)}

    def export(self, output: str, *, show: bool = True) -> None:
        """Exports the newest checkpoint's agent as a SavedModel with `impala-export`, for use elsewhere.

        Raises:
          UserError: there is no readable checkpoint, or `output` exists or cannot be written.
        """
        chosen = {"logdir": self.path, "output": output}
        _run("export", [runs.flag(*item) for item in chosen.items()], self._logdir.logs / "export.txt", show)

    def agent(self, num_envs: int = 1, seed: int = 0) -> SavedAgent:
        """Returns the newest checkpoint's agent, to act with, as `SavedAgent`; imports TensorFlow.

        Raises:
          UserError: there is no readable checkpoint.
        """
        return SavedAgent(str(of_run.find(self._logdir) or of_run.make(self._logdir)), num_envs, seed)

    def environment(self, num_envs: int = 1, seed: int = 0) -> BatchedEnvironment:
        """Returns what the run is trained on, with its preprocessing; of several tasks, one after the other. Close it.

        Args:
          num_envs: number of instances, B.
          seed: determines what happens in them, apart from the actions.

        Raises:
          UserError: the environment cannot be made here.
        """
        tasks = task_set.resolve(self._logdir.read_config().environment)
        return task_set.make_batch(
            tasks, np.sort(np.arange(num_envs, dtype=np.int32) % len(tasks.names)), seed, threads=1
        )


class SavedAgent:
    """A trained agent that acts in B environments at a time; it keeps what it has to remember between two steps."""

    def __init__(self, saved_model: str, num_envs: int = 1, seed: int = 0):
        """Loads a SavedModel; imports TensorFlow.

        Args:
          saved_model: its folder, from `impala-export` or a run's `exports`.
          num_envs: B.
          seed: of the actions that are drawn.

        Raises:
          UserError: there is no SavedModel, or it is damaged.
        """
        self._policy, self._rng = SavedPolicy(saved_model), np.random.default_rng(seed)
        self._num_envs = num_envs
        self.reset()

    def reset(self) -> None:
        """Forgets everything: the next observations are the first of their episodes."""
        self._core_state = self._policy.initial_state(self._num_envs)
        self._action = np.zeros(self._num_envs, np.int32)
        self._start = np.ones(self._num_envs, bool)

    def act(self, observation: Any, reward: Any = 0.0, episode_start: Any = False, greedy: bool = False) -> np.ndarray:
        """Chooses an action for each environment.

        Args:
          observation: [B, ...], preprocessed as in training, or without B where that is 1; with instructions, a dict.
          reward: float [B] or a number: what the last action earned, unclipped. Only recurrent agents look at it.
          episode_start: bool [B] or one: whether the observation is the first of an episode. After `reset`, it is.
          greedy: whether to take the most probable action instead of drawing one.

        Returns:
          int32 [B].
        """
        start = self._start | np.broadcast_to(episode_start, self._num_envs)
        inputs = AgentInput(
            observation=self._batched(observation, self._policy.metadata["observation"]),
            # As in training: zero only where nothing came before.
            last_reward=np.where(self._start, 0, reward).astype(np.float32),
            last_action=np.where(self._start, 0, self._action).astype(np.int32),
            episode_start=start,
        )
        step = self._policy.step(inputs, self._core_state)
        noise = 0.0 if greedy else self._rng.gumbel(size=step.logits.shape)  # The maximum is a draw from the softmax.
        self._action = np.argmax(step.logits + noise, axis=-1).astype(np.int32)
        self._core_state, self._start = step.core_state, np.zeros(self._num_envs, bool)
        return self._action

    def _batched(self, observation: Any, spec: dict[str, Any]) -> Any:
        if "shape" not in spec:
            if not isinstance(observation, dict) or observation.keys() != spec.keys():
                raise UserError(f"The agent takes observations as a dict of {' and '.join(spec)}.")
            return {name: self._batched(observation[name], part) for name, part in spec.items()}
        array, shape = np.asarray(observation), (self._num_envs, *spec["shape"])
        if self._num_envs == 1 and array.ndim < len(shape):
            array = array[None]
        if array.shape != shape or not np.can_cast(array.dtype, spec["dtype"], "same_kind"):
            raise UserError(
                f"The agent takes observations {spec['dtype']} {list(shape)}, as {self._policy.path} says, not "
                f"{array.dtype} {list(array.shape)}."
            )
        return array.astype(spec["dtype"])


def _run(program: str, arguments: Sequence[str], log: pathlib.Path, show: bool) -> None:
    """Runs a command and waits for it, while its output is shown; an interruption ends it in order.

    Raises:
      UserError: it has failed.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{log.parent} cannot be written: {error.strerror}.") from None
    shown = log.stat().st_size if log.exists() else 0
    command = Command([sys.executable, "-m", f"impala_tf.run.{program}", *arguments], log)
    try:
        with open(log, encoding="utf-8", errors="replace") as lines:
            lines.seek(shown)
            ended = False
            while not ended:
                ended = command.status is not None  # Before the last look at the output.
                if (text := lines.read()) and show:
                    print(text, end="", flush=True)
                time.sleep(0.0 if ended else _LOOK_SECONDS)
    finally:
        command.end(_END_SECONDS)
    if command.status:
        raise UserError(command.error())

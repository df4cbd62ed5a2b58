"""A population on Ray Tune: Tune places the members, shares the machines' time among them, and restarts those that die.

The members' folders and population.csv hold everything that the population is (`member`, `record`). Tune holds nothing
that is needed to go on, so that a population resumes whatever has ended it: its own restoring forgets a scheduler's
state. Members and driver must see the same folder, on one machine or in storage that the machines share.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import json
import logging
import math
import os
import pathlib
import shutil
import signal
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Mapping
from typing import Any

import ray
from ray import tune
from ray.tune import Callback, Stopper
from ray.tune.experiment import Trial
from ray.tune.schedulers import PopulationBasedTraining, TrialScheduler

from impala_tf import quiet
from impala_tf.errors import UserError
from impala_tf.experiments.population.member import Evaluation
from impala_tf.experiments.population.population import Evolution, Population
from impala_tf.processes import signals

warnings.filterwarnings("ignore", module=r"(ray|pydantic)(\..*)?")
_LOGGER = logging.getLogger(__name__)
_ENDING_SECONDS = 30.0  # A member's run saves within 8 s.
_LOG = "driver.log"
_TRIES = 3  # To start Ray.
_RESTARTS = 1000  # Of a member's process, over the whole start.


def run(
    population: Population,
    stop: threading.Event,
    at_once: int,
    resources: Mapping[str, float],
    say_every: float,
) -> Evolution:
    """Trains a population until every member has reached its frames, or `stop` is set.

    Uses the cluster that the environment variable RAY_ADDRESS names; otherwise Ray is started on this machine, and
    ended at the end. Ray's own messages are in the folder's tune/driver.log.

    Args:
      population: prepared.
      stop: ends all members, with checkpoints.
      at_once: members that train at the same time on this machine; the others take turns. Not for a cluster.
      resources: of a cluster, that each member takes: {"cpu": ..., "gpu": ...}.
      say_every: seconds between lines of progress.

    Raises:
      UserError: Ray cannot be started, or the population cannot go on.
    """
    tune_folder = population.folder / "tune"
    try:
        evolution = Evolution(population)
        shutil.rmtree(tune_folder, ignore_errors=True)
        tune_folder.mkdir()
        _quiet(tune_folder / _LOG)
    except OSError as error:
        raise _unwritable(error) from None
    marker = population.folder / f".stop-{uuid.uuid4().hex}"
    scheduler = _Scheduler(evolution, stop, say_every)
    # Ray prints to Python's standard output when it loses a process.
    with open(tune_folder / _LOG, "a", buffering=1) as log, contextlib.redirect_stdout(log):
        try:
            if _connect(at_once, stop):
                with _marked_when_set(stop, marker):
                    _tune(population, marker, scheduler, tune_folder, resources)
        finally:
            ray.shutdown()
            marker.unlink(missing_ok=True)
    if scheduler.error:
        raise scheduler.error
    return evolution


def _connect(at_once: int, stop: threading.Event) -> bool:
    """Connects to Ray or starts it, with a CPU for each member that trains at the same time; False if `stop` is set."""
    chosen: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    where = os.environ.get("RAY_ADDRESS")
    if not where:
        chosen |= {"num_cpus": at_once, "include_dashboard": False}
    handlers = {number: signal.getsignal(number) for number in signals.STOP}
    _LOGGER.info(f"connecting to Ray (RAY_ADDRESS={where})" if where else "starting Ray")
    for tries in range(1, _TRIES + 1):  # A busy machine may take longer to start it than Ray waits.
        try:
            ray.init(**chosen)
            return not stop.is_set()
        except Exception as error:  # Of many types.
            ray.shutdown()
            if stop.is_set():  # The terminal sends Ctrl-C to Ray's processes, too.
                return False
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            problem = f"reached (RAY_ADDRESS={where})" if where else "started on this machine"
            if tries < _TRIES:
                _LOGGER.warning("Ray cannot be %s yet: %s; try %d of %d", problem, reason, tries + 1, _TRIES)
                continue
            why = "the cluster may be down" if where else "the machine may be overloaded"
            raise UserError(f"Ray cannot be {problem} after {_TRIES} tries; {why}; run it again: {reason}.") from None
        finally:
            for number, handler in handlers.items():  # Ray has put its own in their place.
                signal.signal(number, handler)
    return False


def _tune(
    population: Population, marker: pathlib.Path, scheduler: _Scheduler, folder: pathlib.Path, resources: Mapping
) -> None:
    own = {"cpu": 1} if not os.environ.get("RAY_ADDRESS") else dict(resources)
    trainable = tune.with_parameters(MemberTrainable, population=population, marker=marker)
    tuner = tune.Tuner(
        tune.with_resources(trainable, own),
        param_space={"member": tune.grid_search(list(range(len(population.initial))))},
        tune_config=tune.TuneConfig(scheduler=scheduler, reuse_actors=False, max_concurrent_trials=None),
        run_config=tune.RunConfig(
            name="population",
            storage_path=str(folder.absolute()),
            verbose=0,
            stop=_Stopper(scheduler),
            callbacks=[_Restarts()],
            failure_config=tune.FailureConfig(max_failures=_RESTARTS),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=3),
        ),
    )
    try:
        tuner.fit()
    except (ray.exceptions.RayError, tune.TuneError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"Ray failed: {lines[-1]} (see {folder / _LOG}). Run the same command again to resume."
        ) from None


class MemberTrainable(tune.Trainable):
    """A member in a process of Ray's. A step trains it to its next evaluation."""

    def setup(self, config: dict[str, Any], *, population: Population, marker: pathlib.Path) -> None:  # type: ignore[override]
        """Names the member; `marker` is the file that appears when the population is to stop."""
        self._number, self._population, self._marker = config["member"], population, marker

    def step(self) -> dict[str, Any]:
        """Trains to the next evaluation. The member may have evolved since the last one, so it is read anew."""
        made = self._population.member(self._number).train(self._marker.exists)
        if made is None:
            return {"fitness": math.nan, "evaluation": 0, "done": True}
        # As text, since Tune would flatten it; the others are what Tune compares.
        text = json.dumps(dataclasses.asdict(made))
        return {"made": text, "fitness": made.fitness, "evaluation": made.evaluation, "done": made.finished}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Says which member it is; the rest lies in the member's folder."""
        pathlib.Path(checkpoint_dir, "member.json").write_text(json.dumps({"member": self._number}))

    def load_checkpoint(self, checkpoint: Any) -> None:
        """There is nothing to load."""


class _Scheduler(PopulationBasedTraining):
    """Evolves members by the paper's rule instead of Tune's quantiles.

    A member waits after its evaluation until it has evolved, so that its folder can be changed from here. Tune's part
    is whose turn it is: a member pauses after its evaluation while others wait.

    Attributes:
      error: why the population cannot go on.
    """

    def __init__(self, evolution: Evolution, stop: threading.Event, say_every: float):
        super().__init__(
            time_attr="evaluation",
            metric="fitness",
            mode="max",
            perturbation_interval=1,
            custom_explore_fn=lambda config: config,
            require_attrs=False,
        )
        self._evolution, self._asked, self._say_every = evolution, stop, say_every
        self.error: UserError | None = None
        self._training = 0

    def __getstate__(self) -> dict[str, Any]:
        """Tune writes its parts to a file, from which nothing is ever restored here."""
        return {}

    @property
    def stopped(self) -> bool:
        """Whether the population is to stop and none of its members trains any more."""
        return self._stopping and not self._training

    @property
    def _stopping(self) -> bool:
        return self._asked.is_set() or self.error is not None

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict) -> str:
        """Lets the member evolve; then it goes on, or pauses while others wait."""
        decision = super().on_trial_result(tune_controller, trial, result)
        return TrialScheduler.PAUSE if self._stopping else decision

    def _checkpoint_or_exploit(self, trial: Trial, tune_controller: Any, upper_quantile: Any, lower_quantile: Any):
        self._evolve(self._trial_state[trial].last_result or {})

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict) -> None:
        """Records the last evaluation of a member."""
        super().on_trial_complete(tune_controller, trial, result)
        self._evolve(result)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Returns the member that is furthest behind of those that wait; None once the population is to stop."""
        self._training = sum(trial.status == Trial.RUNNING for trial in tune_controller.get_trials())
        self._evolution.say(self._say_every, self._training)
        return None if self._stopping else super().choose_trial_to_run(tune_controller)

    def _evolve(self, result: Mapping[str, Any]) -> None:
        if "made" not in result or self.error:
            return  # It was asked to stop.
        try:
            self._evolution.evaluated(Evaluation(**json.loads(result["made"])))
        except UserError as error:
            self._end(error)
        except OSError as error:
            self._end(_unwritable(error))

    def _end(self, error: UserError) -> None:
        self.error = error
        self._asked.set()


class _Stopper(Stopper):
    """Ends Tune once the population is to stop and its members have saved."""

    def __init__(self, scheduler: _Scheduler):
        self._scheduler, self._until = scheduler, 0.0

    def __call__(self, trial_id: str, result: dict) -> bool:
        return False

    def stop_all(self) -> bool:
        if not self._scheduler._stopping:
            return False
        self._until = self._until or time.monotonic() + _ENDING_SECONDS
        return self._scheduler.stopped or time.monotonic() > self._until


class _Restarts(Callback):
    """Names members whose process died."""

    def on_trial_recover(self, iteration: int, trials: list, trial: Trial, **info: Any) -> None:
        _LOGGER.warning("member %d's process died; it goes on from its last checkpoint", trial.config["member"])


def _unwritable(error: OSError) -> UserError:
    return UserError(f"The population's files cannot be written: {error}. Put that right, and run it again to resume.")


class _marked_when_set:
    """Creates a file once an event is set, for members on other machines."""

    def __init__(self, event: threading.Event, marker: pathlib.Path):
        self._event, self._marker, self._over = event, marker, threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stop-marker", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            if self._event.is_set():
                _LOGGER.info("ending: the members save (up to %.0f s)", _ENDING_SECONDS)
                with contextlib.suppress(OSError):  # The folder may be gone.
                    self._marker.touch()
                return


def _quiet(log: pathlib.Path) -> None:
    """Keeps Ray's messages off the terminal: they go to a file."""
    chosen = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",  # Settings may name relative paths.
        "RAY_agent_register_timeout_ms": "120000",  # A busy machine takes longer than the 15 s that Ray allows.
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000",  # Members take turns.
    }
    for name, value in chosen.items():
        os.environ.setdefault(name, value)
    quiet.native_stderr(log)
    if colorama := sys.modules.get(
        "colorama.initialise"
    ):  # Ray's; it would write an escape to the terminal at the end.
        atexit.unregister(colorama.reset_all)
    logger = logging.getLogger("ray")
    logger.handlers, logger.propagate = [logging.FileHandler(log)], False

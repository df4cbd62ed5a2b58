"""Films a policy's first episodes. They are replayed for it, each with its seed, so an evaluation does not wait for it.

Environments that need a process of their own are filmed in one: an engine that ends its process ends only the film.
"""

from __future__ import annotations

import logging
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from impala_tf import environments
from impala_tf.environments.base import BatchedEnvironment
from impala_tf.errors import UserError
from impala_tf.evaluation import episodes, video
from impala_tf.evaluation.episodes import Moment
from impala_tf.export.saved_model import SavedPolicy
from impala_tf.processes.child import Child, ChildFailed

_LOGGER = logging.getLogger(__name__)

STEPS_PER_SECOND = 15  # Real time for Atari (60 Hz, 4 frames per step) and about right for the others.
FEW = 3
LEAST_STEPS, MOST_STEPS = 30 * STEPS_PER_SECOND, 120 * STEPS_PER_SECOND
"""A film has `FEW` episodes, more if they last less than half a minute, and is cut after two minutes."""
_END_FRAMES = STEPS_PER_SECOND  # The end of an episode stays for a second.
_REPORT_STEPS = 50


class Film(NamedTuple):
    """What is filmed.

    Attributes:
      path: mp4 file to write.
      saved_model: folder of the SavedModel.
      env_id: environment id of the task.
      options: of `environments.make`.
      seeds: seeds of the episodes, in order; more than needed for the film.
      greedy: take the most probable action instead of sampling one.
      deadline: seconds within which an environment must answer.
      log: file for the output of an engine in a process of its own; "": this process's standard error.
    """

    path: str
    saved_model: str
    env_id: str
    options: dict[str, Any]
    seeds: tuple[int, ...]
    greedy: bool
    deadline: float
    log: str


def make(film: Film, policy: SavedPolicy, stopped: Callable[[], bool]) -> bool:
    """Makes a film.

    Args:
      film: what to film.
      policy: of the film's SavedModel.
      stopped: called many times a second; once it returns True, no film is made.

    Returns:
      False if it was stopped.

    Raises:
      UserError: the film cannot be made or written; nothing is left of it.
    """
    _LOGGER.info("filming the first episodes")
    if environments.needs_process(film.env_id):
        return _make_in_process(film, stopped)
    try:
        return _shoot(film, policy, stopped)
    except episodes.TaskFailed as error:
        raise UserError(f"--video={film.path} could not be made ({error}).") from None


def _make_in_process(film: Film, stopped: Callable[[], bool]) -> bool:
    """Does what `make` does, in a child process."""
    heard = time.monotonic()

    def on_line(level: int, text: str) -> None:
        nonlocal heard
        heard = time.monotonic()
        if level >= logging.WARNING:
            _LOGGER.log(level, "film: %s", text)

    log = pathlib.Path(film.log) if film.log else None
    process = Child("film", _work, film, log=log, forward=logging.INFO, on_line=on_line)
    try:
        while not process.ends_within(0.2):
            if stopped():
                return False
            if time.monotonic() - heard > film.deadline:
                raise ChildFailed(f"there was no picture for {film.deadline:g} s")
        process.answer(0.0)
    except (ChildFailed, UserError) as error:
        where = f" The engine's own output is in {film.log}." if film.log else ""
        raise UserError(f"--video={film.path} could not be made ({error}).{where}") from None
    finally:
        process.end()
        video.unfinished(pathlib.Path(film.path)).unlink(missing_ok=True)
    return True


def _work(film: Film) -> None:
    """The work of the film's process."""
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    _shoot(film, SavedPolicy(film.saved_model), lambda: False, lambda steps: _LOGGER.info("%d steps", steps))


def _shoot(
    film: Film,
    policy: SavedPolicy,
    stopped: Callable[[], bool],
    report: Callable[[int], None] = lambda steps: None,
) -> bool:
    """Plays episodes one after the other and writes the film; returns False if it was stopped.

    Calls `report` with the number of steps, now and then.
    """
    about = policy.metadata
    note = f"{about['frames'] / 1e6:.3g}M frames"
    steps = 0

    def environment(seed: int) -> BatchedEnvironment:
        return environments.make(film.env_id, 1, seed, render=True, **film.options)

    def go_on(_: int) -> bool:
        return steps < MOST_STEPS and not stopped()

    with video.Video(
        pathlib.Path(film.path), film.env_id, note, about["action_names"], about["num_actions"], STEPS_PER_SECOND
    ) as recording:

        def watch(moment: Moment) -> None:
            nonlocal steps
            if moment.ended:
                # The environment may show the next episode already.
                recording.add(recording.last_frame, *moment[2:], episode=moment.number + 1, times=_END_FRAMES)
                return
            recording.add(moment.environment.render(), *moment[2:], episode=moment.number + 1)
            steps += 1
            if steps % _REPORT_STEPS == 0:
                report(steps)

        for number in range(len(film.seeds)):
            if not go_on(0) or (number >= FEW and steps >= LEAST_STEPS):
                break
            episodes.play(
                policy,
                environment,
                film.seeds.__getitem__,
                [number],
                1,
                label="film",
                greedy=film.greedy,
                add=lambda episode: None,
                go_on=go_on,
                watch=watch,
            )
        if stopped():
            recording.discard()
    return not stopped()

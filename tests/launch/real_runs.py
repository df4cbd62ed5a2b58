"""Small runs on catch, importable in the processes of their own that TensorFlow's settings ask for."""

from __future__ import annotations

import pathlib
import tempfile
import threading
from typing import Any

from impala_tf import config as config_lib
from impala_tf import topology
from impala_tf.config import Config
from impala_tf.environments import task_set
from impala_tf.environments.task_set import TaskSet
from impala_tf.errors import UserError
from impala_tf.records.logdir import LogDir
from impala_tf.topology import Topology
from impala_tf.transport import ports

UNROLL_LENGTH = 5
SETTINGS = {
    "env": "catch",
    "unroll_length": UNROLL_LENGTH,
    "batch_size": 6,
    "num_actors": 2,
    "envs_per_actor": 3,
    "torso": "mlp",
    "learner_threads": 1,
    "log_interval": 0.1,
    "stall_timeout": 60.0,
}


def resolve(logdir: pathlib.Path, **values: Any) -> tuple[Config, TaskSet, Topology]:
    """What a command hands to an architecture or a launcher; makes the log directory."""
    config = config_lib.from_values({**SETTINGS, "logdir": str(logdir), **values})
    tasks = task_set.resolve(config.environment)
    LogDir(config.run.logdir).check(config)
    return config, tasks, topology.resolve(config, len(tasks.names), ports.on_this_machine(config.launch))


def in_turns(logdir: pathlib.Path, stopped: bool, values: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Returns the names of the threads and of the temporary folders that are left after the run."""
    from impala_tf.launch import in_turns

    folder = logdir.with_name("temporary")
    folder.mkdir(exist_ok=True)
    tempfile.tempdir = str(folder)
    stop = threading.Event()
    if stopped:
        stop.set()
    in_turns.run(*resolve(logdir, **values), stop)
    names = {"variable-publisher", "batch-queue", "server-watch"}
    threads = sorted(names & {thread.name for thread in threading.enumerate()})
    return threads, [path.name for path in folder.glob("impala_tf_reverb_*")]


def starve(logdir: pathlib.Path) -> str:
    """Returns the error of a learner that gets one batch and then no unrolls."""
    from impala_tf.launch import in_turns
    from impala_tf.roles import in_turns as alternation

    alternation.run = lambda config, training, actor, end, stop, beat: _learn_once(training, actor, end, stop)
    try:
        in_turns.run(*resolve(logdir, num_actors=0, envs_per_actor=6, stall_timeout=1.0), threading.Event())
    except UserError as error:
        return str(error)
    raise AssertionError("it got more unrolls")


def _learn_once(training, actor, end, stop) -> None:
    actor.run_unroll()
    end.writer.flush(10)
    training.run(stop)


def in_turns_again(logdir: pathlib.Path) -> tuple[str, tuple[list[str], list[str]]]:
    """Returns the error of a start with a queue that is too small, and what the start after it leaves."""
    values = {"num_actors": 0, "envs_per_actor": 6, "total_frames": 60}
    try:
        in_turns(logdir, False, {**values, "queue_size": 3})
    except UserError as error:
        return str(error), in_turns(logdir, False, values)
    raise AssertionError("a queue of 3 is not enough")


def never_an_unroll_again(logdir: pathlib.Path) -> str:
    """Returns the error of a run whose environments fail in every round from the third on."""
    import itertools
    import time

    from impala_tf.acting.actor import Actor
    from impala_tf.launch import in_turns

    run_unroll, rounds = Actor.run_unroll, itertools.count()

    def fail_later(actor, *at_most):
        if next(rounds) < 2:
            return run_unroll(actor, *at_most)
        time.sleep(0.02)
        actor.timings.lap("environment")
        return 0

    Actor.run_unroll = fail_later
    try:
        in_turns.run(*resolve(logdir, num_actors=0, envs_per_actor=6, stall_timeout=1.0), threading.Event())
    except UserError as error:
        return str(error)
    raise AssertionError("it has ended well")


LEARNS = {
    "batch_size": 32,
    "envs_per_actor": 0,
    "unroll_length": 20,
    "learning_rate": 0.006,
    "entropy_cost": 0.003,
    "rmsprop_epsilon": 0.001,
    "annealing_frames": 1_000_000,
}
"""With these, catch is learned within 80,000 frames, as `test_policy_lag` checks."""


def lags(logdir: pathlib.Path, values: dict[str, Any]) -> list[tuple[int, int]]:
    """Runs in turns; returns the smallest and the largest policy lag in each update."""
    from impala_tf.launch import in_turns
    from impala_tf.roles.learner import Training

    found, update = [], Training.update

    def observe(training, batch, waited):
        lag = training.step_count - batch.unrolls.learner_step[1:].numpy()
        found.append((int(lag.min()), int(lag.max())))
        update(training, batch, waited)

    Training.update = observe
    try:
        in_turns.run(*resolve(logdir, num_actors=0, **values), threading.Event())
    finally:
        Training.update = update
    return found


def lags_of_all(folder: pathlib.Path, runs: list[dict[str, Any]]) -> list[list[tuple[int, int]]]:
    """Returns `lags` of several runs; each has a folder of its own, named after its policy lag."""
    return [lags(folder / str(values["policy_lag"]), values) for values in runs]


def same_three_ways(folder: pathlib.Path) -> list[list[Any]]:
    """Returns the parameters after 20 updates of IMPALA with lag 0, and of batched A2C, step by step and with dynamic
    batches, in environments with the same seeds."""
    import numpy as np

    from impala_tf.environments import task_set
    from impala_tf.environments.remote import worker
    from impala_tf.environments.remote.mailbox import PolicyMailbox
    from impala_tf.launch import in_turns
    from impala_tf.processes.timings import Timings
    from impala_tf.roles import actor, lockstep_learner
    from impala_tf.roles.learner import Training

    found, finish = [], Training.finish

    def keep(training, stop):
        found.append([np.array(v) for v in training.agent.trainable_variables])
        finish(training, stop)

    Training.finish = keep
    values = {"envs_per_actor": 6, "total_frames": 20 * 6 * UNROLL_LENGTH}
    in_turns.run(*resolve(folder / "impala", num_actors=0, policy_lag=0, **values), threading.Event())
    for dynamic in (False, True):
        values |= {"architecture": f"batched_a2c_sync_{'trajectory' if dynamic else 'step'}", "num_actors": 1}
        config, tasks, resolved = resolve(folder / values["architecture"], **values)
        mailbox = PolicyMailbox(tasks.spec, 1, 6)
        seed, _ = actor.seeds(config, 0, 0)
        environment = task_set.make_batch(tasks, resolved.task_ids(0), seed, 1)
        arguments = (environment, mailbox.worker(0), Timings(worker.ACTIVITIES))
        threading.Thread(target=worker.run, args=arguments, daemon=True).start()
        lockstep_learner.run(config, tasks, resolved, threading.Event(), mailbox, dynamic_batches=dynamic)
    return found

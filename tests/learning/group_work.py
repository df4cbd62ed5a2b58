"""What each process of `test_group` does as one of several learners."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from impala_tf import config as config_lib
from impala_tf.errors import UserError
from impala_tf.learning.group import ConnectedGroup, Group, checksum
from impala_tf.learning.learner import Learner
from impala_tf.networks.agent import Agent
from impala_tf.processes import parent
from impala_tf.roles.together import Rounds
from impala_tf.structures import ArraySpec, Batch, EnvironmentSpec, Trajectory

T, B, ACTIONS, FRAMES_PER_STEP, STEPS = 3, 2, 2, 4, 3
SPEC = EnvironmentSpec(ArraySpec((3,), np.dtype(np.float32)), ACTIONS, FRAMES_PER_STEP)


def batch(step: int, ranks: Sequence[int]) -> Batch:
    """The unrolls that the learners `ranks` draw for an update, side by side; that of learner 1 has a replayed one."""
    drawn = [_drawn(np.random.default_rng([step, rank]), rank) for rank in ranks]
    unrolls, fresh = zip(*drawn)
    fields = [_joined(field) for field in zip(*unrolls)]
    return Batch(Trajectory(*fields), tf.constant(np.concatenate(fresh)))


def _joined(arrays):
    if isinstance(arrays[0], tuple):
        return ()
    return tf.constant(np.concatenate(arrays, axis=1 if arrays[0].ndim > 1 else 0))


def _drawn(rng: np.random.Generator, rank: int) -> tuple[Trajectory, np.ndarray]:
    entries = (T + 1, B)
    unrolls = Trajectory(
        observation=rng.normal(size=(*entries, 3)).astype(np.float32),
        reward=rng.normal(size=entries).astype(np.float32),
        terminated=rng.random(entries) < 0.2,
        truncated=np.zeros(entries, bool),
        episode_return=rng.normal(size=entries).astype(np.float32),
        episode_length=rng.integers(0, 9, entries).astype(np.int32),
        action=rng.integers(0, ACTIONS, entries).astype(np.int32),
        behaviour_logits=rng.normal(size=(*entries, ACTIONS)).astype(np.float32),
        learner_step=rng.integers(0, 2**40, entries),
        core_state=(),
        task_id=rng.integers(0, 5, B).astype(np.int32),
    )
    return unrolls, np.array([True] * (B - 1) + [rank != 1])


def learner(group: Group, batch_size: int, seed: int) -> Learner:
    config = config_lib.from_values({"unroll_length": T, "batch_size": batch_size, "max_gradient_norm": 0.5})
    return Learner(Agent(SPEC, torso="mlp", core="none", seed=seed), config, FRAMES_PER_STEP, group)


def values(of: Learner) -> list[np.ndarray]:
    return [variable.numpy() for variable in of.variables]


def learn(addresses: list[str], rank: int) -> dict:
    """Takes the parameters of learner 0, updates, refuses an update, and compares checksums that differ."""
    group = ConnectedGroup(addresses, rank, timeout=60)
    own = learner(group, B, seed=rank)
    before = values(own)
    group.broadcast(own.variables)
    start = values(own)
    metrics = []
    for step in range(STEPS):
        metrics.append({name: float(value) for name, value in own.step(batch(step, [rank])).items()})
    learned = values(own)
    bad = batch(STEPS, [rank])
    if rank == 1:
        bad = bad._replace(unrolls=bad.unrolls._replace(reward=bad.unrolls.reward * np.float32("nan")))
    own.step(bad)
    refused = values(own)
    rounds = Rounds(group, T, B)
    agreed = [
        rounds.agree(batch(0, [rank]), waited=1.0, stop=False, checksum=checksum(own.variables)),
        rounds.agree(None if rank else batch(0, [rank]), waited=1.0 + rank, stop=False),
        rounds.agree(None, waited=0.0, stop=rank == 1),
    ]
    own.step_count.assign_add(rank)
    try:
        rounds.agree(batch(0, [rank]), waited=1.0, stop=False, checksum=checksum(own.variables))
        differs = ""
    except UserError as error:
        differs = str(error)
    group.leave()
    return {
        "before": before,
        "start": start,
        "metrics": metrics,
        "learned": learned,
        "refused": refused,
        "count": (int(own.refused), int(own.refused_in_a_row)),
        "agreed": [round_._asdict() for round_ in agreed],
        "differs": differs,
    }


def stay(addresses: list[str], rank: int) -> None:
    """Exchanges numbers until a learner is lost."""
    group = ConnectedGroup(addresses, rank, timeout=60)
    while True:
        group.gather(np.array([rank], np.int64))
        parent.send(parent.Ready())


def leave(addresses: list[str], rank: int) -> float:
    """Leaves, learner 0 a second after the other; returns the seconds that this took."""
    group = ConnectedGroup(addresses, rank, timeout=60)
    group.gather(np.array([rank], np.int64))
    if rank == 0:
        time.sleep(1.0)
    start = time.monotonic()
    group.leave()
    return time.monotonic() - start


def leave_alone(addresses: list[str], rank: int) -> None:
    """Leaves; learner 1 never does, and has to be killed."""
    group = ConnectedGroup(addresses, rank, timeout=60)
    group.gather(np.array([rank], np.int64))
    parent.send(parent.Ready())
    if rank:
        signal.pause()
    group.leave()


def be_asked_to_end(addresses: list[str], rank: int) -> bool:
    """Returns whether SIGTERM is handled as before."""
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    group = ConnectedGroup(addresses, rank, timeout=60)
    group.gather(np.array([rank], np.int64))
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.1)
    group.leave()
    return asked == [True]

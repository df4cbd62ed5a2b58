"""Tasks and settings with which one machine tests the paper's findings.

A run takes about a minute on one core. The tasks are as different as that allows: Catch, a memory task for the LSTM,
and two games of MinAtar, which is made for experiments of this size. The learning rate was chosen once, for V-trace
without policy lag and without replay, where all corrections are the same; all agents use it. Learner and actor run in
turns, in one process and with an exact policy lag: how busy the machine is then changes nothing.
"""

from __future__ import annotations

from impala_tf.experiments import sweep
from impala_tf.experiments.catalogue.grid import Task

SETTINGS = {
    "num_actors": 0,
    "learner_threads": 1,
    "unroll_length": 20,
    "batch_size": 16,
    "learning_rate": 0.005,
    # As behind a cluster's queue. The paper does not say what its own lag was.
    "policy_lag": 10,
    "log_interval": 1.0,
    "checkpoint_interval": 600.0,
}

CATCH = Task("catch", {"env": "catch", "total_frames": 200_000}, random=-0.60)
MEMORY = Task("memory", {"env": "memory", "core": "lstm", "total_frames": 200_000}, random=0.25)
BREAKOUT = Task("breakout", {"env": "minatar/breakout", "torso": "small", "total_frames": 300_000}, random=0.38)
INVADERS = Task(
    "space_invaders", {"env": "minatar/space_invaders", "torso": "small", "total_frames": 300_000}, random=4.13
)
TASKS = (CATCH, MEMORY, BREAKOUT, INVADERS)

# Those of six games on which a short run of all six learned most, with the scores of a random player as in
# suites/atari57.json.
_ATARI = {"krull": 1598.0, "up_n_down": 533.4, "boxing": 0.1}


def atari(games: int, frames: int) -> tuple[Task, ...]:
    """Returns the first of the games as tasks with `frames` environment frames each."""
    return tuple(
        Task(game, {"env": f"atari/{game}", "total_frames": frames}, random=score)
        for game, score in list(_ATARI.items())[:games]
    )


ATARI_SETTINGS = {"num_actors": 2, "envs_per_actor": 12, "full_action_set": True, "log_interval": 5.0}
"""With the paper's Atari settings; all actions, as an agent for several games has them."""

SEEDS = {f"seed_{seed}": {"seed": seed} for seed in range(1, 6)}
COMBINATIONS = {f"{number:02}": {**values, "seed": number + 1} for number, values in enumerate(sweep.draw(seed=1))}
"""The paper's 24 combinations (Table D.1), as `impala-sweep` draws them; each run has a seed of its own."""

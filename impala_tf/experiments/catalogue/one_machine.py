"""Tasks and settings with which one machine tests the paper's findings.

A run takes about a minute on one core. The tasks are as different as that allows: Catch, a memory task for the LSTM,
and two games of MinAtar, which is made for experiments of this size. The learning rate was chosen once, for V-trace
without policy lag and without replay, where all corrections are the same; all agents use it. Learner and actor run in
turns, in one process and with an exact policy lag: a run then computes the same on any machine, however busy.
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

SEEDS = {f"seed_{seed}": {"seed": seed} for seed in range(1, 6)}
COMBINATIONS = {f"{number:02}": {**values, "seed": number + 1} for number, values in enumerate(sweep.draw(seed=1))}
"""The paper's 24 combinations (Table D.1), as `impala-sweep` draws them; each run has a seed of its own."""

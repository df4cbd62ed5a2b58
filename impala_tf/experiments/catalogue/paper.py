"""Tasks and settings of the paper's own runs."""

from __future__ import annotations

from impala_tf import suites
from impala_tf.experiments.catalogue.grid import Task

LEVELS = tuple(
    Task(level, {"env": f"dmlab/{level}", "total_frames": 1_000_000_000})
    for level in (
        "rooms_watermaze",
        "rooms_keys_doors_puzzle",
        "lasertag_three_opponents_small",
        "explore_goal_locations_small",
        "seekavoid_arena_01",
    )
)
"""The five levels of Figures 4 and E.1 to E.4, and of Table 2."""

ACTORS = {"num_actors": 200, "envs_per_actor": 1}
"""The paper's actors, on other machines than the learner."""

DMLAB30 = tuple(
    Task(env.partition("/")[2], {"env": env, "total_frames": 333_000_000}) for env in suites.env_ids("dmlab30")
)
"""The levels of DMLab-30, with a thirtieth of an agent's ten billion frames each."""

ATARI57 = tuple(
    Task(env.partition("/")[2], {"env": env, "total_frames": 200_000_000}) for env in suites.env_ids("atari57")
)

"""Computes from measured costs what a number of frames per second needs: learners, cores, relays and network.

Every quantity is a rate times a measured cost, so costs are taken to stay what they are at rates and on machines that
were not measured. Nothing is added for what waits.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

_MEGA = 1e6


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A layout that is to reach a number of frames per second.

    Attributes:
      frames_per_second: environment frames per second of all actors.
      learners: N, number of learners.
      batch_size: B, unrolls per update of each learner.
      envs_per_actor: environments per actor, which is taken to use one core.
      cores_per_machine: cores of a machine of actors, and so actors per relay.
      relay_rate: publications that each relay passes on per second at most; 0: no relays, actors pull from learners.
      all_reduce_ms_per_mb: CPU milliseconds that summing 1 MB of gradients takes each learner.
    """

    frames_per_second: float
    learners: int
    batch_size: int
    envs_per_actor: int
    cores_per_machine: int
    relay_rate: float
    all_reduce_ms_per_mb: float


def project(costs: Mapping[str, float], cluster: Cluster) -> dict[str, float]:
    """Computes what a layout needs.

    Args:
      costs: "constants" of `parameters.measure`.
      cluster: the layout.

    Returns:
      The layout and, for all machines together unless a name says otherwise: unrolls and updates per second; the
      milliseconds that an update may take, all-reduce included; cores for actors and for updates on CPUs; cores of each
      learner's machine besides its updates, with its parts; relays, and cores of each; megabytes per second into and
      out of each learner's machine; and the policy lag at the end of an unroll without that of queues: updates while
      an actor plays an unroll in each of its environments, and while a relay waits.
    """
    frames, learners = cluster.frames_per_second, cluster.learners
    unrolls = frames / costs["frames_per_unroll"]
    updates = unrolls / (cluster.batch_size * learners)
    megabytes = costs["bytes_per_pull"] / _MEGA
    rounds = unrolls / cluster.envs_per_actor  # Pulls per second: an actor pulls once for a round of unrolls.
    per_frame_us = (
        costs["environment_core_us_per_frame"]
        + costs["inference_core_us_per_frame"]
        + 1e3 * costs["unroll_actor_cpu_ms"] / costs["frames_per_unroll"]
        + 1e3 * costs["pull_actor_cpu_ms"] / (costs["frames_per_unroll"] * cluster.envs_per_actor)
    )
    actors = frames * per_frame_us / _MEGA
    machines = math.ceil(actors / cluster.cores_per_machine)
    relays = machines if cluster.relay_rate else 0
    passed_on = min(cluster.relay_rate, updates)  # A relay does not pull what it has.
    pulls_of_learners = relays * passed_on if relays else rounds
    serving = pulls_of_learners / learners * costs["pull_host_cpu_ms"] / 1e3
    intake = unrolls / learners * costs["unroll_host_cpu_ms"] / 1e3
    publishing = updates * costs["publish_cpu_ms"] / 1e3
    all_reduce_ms = cluster.all_reduce_ms_per_mb * megabytes * (learners > 1)
    # A ring sends each gradient (n - 1) / n times around, twice.
    ring = 2 * (learners - 1) / learners * megabytes * updates
    of_one_relay = passed_on * costs["pass_on_cpu_ms"] + rounds / max(relays, 1) * costs["pull_host_cpu_ms"]
    return {
        **dataclasses.asdict(cluster),
        "unrolls_per_second": unrolls,
        "updates_per_second": updates,
        "ms_per_update": 1e3 / updates,
        "all_reduce_cpu_ms_per_update": all_reduce_ms,
        "actor_cores": actors,
        "actor_machines": machines,
        "update_cores": frames * costs["update_core_us_per_frame"] / _MEGA,
        "cores_per_learner": intake + serving + publishing + updates * all_reduce_ms / 1e3,
        "intake_cores_per_learner": intake,
        "serving_cores_per_learner": serving,
        "publishing_cores_per_learner": publishing,
        "all_reduce_cores_per_learner": updates * all_reduce_ms / 1e3,
        "relays": relays,
        "cores_per_relay": of_one_relay / 1e3 if relays else 0.0,
        "mb_per_second_into_learner": unrolls / learners * costs["bytes_per_unroll"] / _MEGA + ring,
        "mb_per_second_out_of_learner": pulls_of_learners / learners * megabytes + ring,
        "policy_lag_about": updates * max(actors, 1.0) / rounds + (updates / cluster.relay_rate if relays else 0.0),
    }


def compare(costs: Mapping[str, float], base: Cluster, learners: Sequence[int]) -> list[dict[str, Any]]:
    """Projects a layout for several numbers of learners, each without relays and with those of `base`."""
    return [
        project(costs, dataclasses.replace(base, learners=number, relay_rate=rate))
        for number in learners
        for rate in (0.0, base.relay_rate)
    ]


def table(rows: Sequence[Mapping[str, float]]) -> str:
    """Formats rows as text: one line per quantity, one column per layout."""
    width = max(len(name) for name in rows[0])
    return "\n".join(f"{name:>{width}}" + "".join(f"{_text(row[name]):>12}" for row in rows) for name in rows[0])


def _text(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or value >= 1000 else f"{value:,.3g}"

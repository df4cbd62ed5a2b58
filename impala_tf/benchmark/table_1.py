"""Measures the rows of the paper's Table 1 side by side: the throughput of each architecture on this machine.

Every round runs each row once, in processes of its own; the rows' ratios to IMPALA are taken within a round, since the
speed of a shared machine changes from minute to minute. All rows have the same actors and environments and, except for
A3C, which has none, the same batches.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from impala_tf.benchmark.measure import learner_device
from impala_tf.benchmark.setup import Setup, resolve
from impala_tf.benchmark.whole import WholeSystem
from impala_tf.config import Config, DataConfig, from_values, to_values
from impala_tf.errors import UserError
from impala_tf.machine import cores

_LOGGER = logging.getLogger(__name__)
_IMPALA = "IMPALA"
ROWS: dict[str, dict[str, Any]] = {
    "A3C": {"architecture": "a3c", "batch_size": DataConfig.batch_size},  # It has no batches.
    "Batched A2C (sync step)": {"architecture": "batched_a2c_sync_step"},
    "Batched A2C (sync traj.)": {"architecture": "batched_a2c_sync_trajectory"},
    "Batched A2C (dyn. batch)": {"architecture": "batched_a2c_sync_trajectory", "inference": "central"},
    _IMPALA: {"architecture": "impala"},
    "IMPALA (dyn. batch)": {"architecture": "impala", "inference": "central"},
}
"""The settings of each row."""


def rows(setup: Setup) -> dict[str, Setup]:
    """Returns the run of each row: a batch is one unroll of each environment, as batched A2C needs it.

    Raises:
      UserError: the numbers of actors and environments do not fit the batch; or another architecture is set.
    """
    values, default = to_values(setup.config), to_values(Config())
    for name in ("architecture", "inference", "policy_lag", "replay_fraction"):
        if values[name] != default[name]:
            raise UserError(f"--table compares architectures: remove --{name}={values[name]}.")
    batched = resolve(from_values(values | ROWS["Batched A2C (sync step)"]), setup.tasks).topology
    same = {"num_actors": batched.num_actors, "envs_per_actor": batched.envs_per_actor}
    return {name: resolve(from_values(values | same | row), setup.tasks) for name, row in ROWS.items()}


def measure(setup: Setup, seconds: float, repeats: int) -> dict[str, Any]:
    """Measures every row `repeats` times, each time in new processes.

    Args:
      setup: the run to measure; its architecture is varied.
      seconds: half of the time to measure each row in a round.
      repeats: number of rounds.

    Returns:
      A JSON-able dict; see `table`. Intervals are of 95% (bootstrap over rounds).

    Raises:
      UserError: as for `rows`; or a run failed.
    """
    runs = rows(setup)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in runs}
    for number in range(repeats):
        # In turns from either end, so that a trend favors nobody.
        for name in sorted(runs, key=list(runs).index, reverse=bool(number % 2)):
            _LOGGER.info("round %d of %d: %s", number + 1, repeats, name)
            found[name].append(_measure(runs[name], seconds))
    impala = [each["frames_per_second"] for each in found[_IMPALA]]
    config, topology = setup.config, runs[_IMPALA].topology
    return {
        "environment": config.environment.env,
        "torso": config.network.torso,
        "core": config.network.core,
        "precision": config.network.precision,
        "unroll_length": config.data.unroll_length,
        "batch_size": config.data.batch_size,
        "num_actors": topology.num_actors,
        "envs_per_actor": topology.envs_per_actor,
        "cores": cores(),
        "device": learner_device(),
        "seconds": seconds,
        "rows": {
            name: {
                "settings": ROWS[name],
                "learner_threads": runs[name].topology.learner_threads,
                "frames_per_second": _interval([each["frames_per_second"] for each in rounds]),
                "ratio_to_impala": _interval([each["frames_per_second"] / i for each, i in zip(rounds, impala)]),
                "rounds": rounds,
            }
            for name, rounds in found.items()
        },
    }


def _measure(run: Setup, seconds: float) -> dict[str, Any]:
    with WholeSystem(run) as system:
        system.wait_until_running()
        system.watch(seconds / 2)
        mark = system.mark()
        behavior = system.watch(2 * seconds)
        done = system.since(mark)
    return {
        "frames_per_second": done["frames_per_second"],
        "core_us_per_frame": 1e6 * done["core_seconds_per_frame"],
        "policy_lag_mean": behavior["policy_lag_mean"],
        "policy_lag_max": behavior["policy_lag_max"],
        "learner_waiting": behavior["learner_waiting"],
        "peak_memory_mib": sum(done["peak_memory_mib"].values()),
    }


def _interval(values: Sequence[float]) -> dict[str, float]:
    """Returns the mean and its 95% interval."""
    drawn = np.random.default_rng(0).choice(values, (10_000, len(values)))
    low, high = np.percentile(drawn.mean(axis=1), [2.5, 97.5])
    return {"mean": float(np.mean(values)), "low": float(low), "high": float(high)}


def table(result: dict[str, Any]) -> str:
    """Formats the result of `measure` as text."""
    lines = [
        f"{result['environment']}, torso {result['torso']}, core {result['core']}, {result['precision']}, "
        f"T = {result['unroll_length']}, B = {result['batch_size']}, "
        f"{result['num_actors']} x {result['envs_per_actor']} environments, {result['cores']} cores",
        "",
        f"{'':<28}{'frames/s':>10}{'95% interval':>20}{'/ IMPALA':>12}{'95% interval':>16}{'mean lag':>10}",
    ]
    for name, row in result["rows"].items():
        fps, ratio = row["frames_per_second"], row["ratio_to_impala"]
        lag = float(np.mean([each["policy_lag_mean"] for each in row["rounds"]]))
        within = "{low:,.0f} to {high:,.0f}".format(**fps), "{low:.2f} to {high:.2f}".format(**ratio)
        lines.append(f"{name:<28}{fps['mean']:>10,.0f}{within[0]:>20}{ratio['mean']:>12.2f}{within[1]:>16}{lag:>10.2f}")
    return "\n".join(lines)

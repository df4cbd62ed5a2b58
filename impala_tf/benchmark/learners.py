"""Measures what an update costs each of several learners, and how much of that is summing gradients."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from impala_tf import machine
from impala_tf.benchmark import parts
from impala_tf.benchmark.setup import Setup
from impala_tf.errors import UserError
from impala_tf.learning.group import ALONE, ConnectedGroup, Group
from impala_tf.networks.agent import make_agent
from impala_tf.processes import child
from impala_tf.processes.child import FORK_SERVER, Child, ChildFailed
from impala_tf.transport import ports

_LOGGER = logging.getLogger(__name__)
_START_SECONDS = 300.0
_WARM_UP = 3  # Updates.


class _Cost(NamedTuple):
    """CPU and wall time of one update, or of one sum, in milliseconds."""

    cpu_ms: float
    ms: float


def measure(setup: Setup, seconds: float, sizes: Sequence[int] = (1, 2, 3)) -> dict[str, Any]:
    """Measures several numbers of learners, each with a batch of size B of its own.

    Args:
      setup: the run to measure.
      seconds: time for each measurement, about.
      sizes: numbers of learners.

    Returns:
      {"machine": ..., "mb_per_sum": megabytes of gradients, "rows": one per number of learners}.

    Raises:
      UserError: a learner failed.
    """
    (alone,) = _run(setup, 1, 2 * _WARM_UP)
    updates = max(2 * _WARM_UP, round(1000 * seconds / alone["update"].ms))
    rows = []
    for size in sizes:
        _LOGGER.info("measuring %d learner%s", size, "s" * (size > 1))
        costs = _run(setup, size, updates)
        row = {"learners": size, "updates": updates}
        for name in ("update", "sum"):
            row[f"{name}_cpu_ms"] = float(np.mean([cost[name].cpu_ms for cost in costs]))
            row[f"{name}_ms"] = float(np.max([cost[name].ms for cost in costs]))
        rows.append(row)
    return {"machine": machine.description(), "mb_per_sum": alone["mb"], "rows": rows}


def table(result: dict[str, Any]) -> str:
    """Returns the result as text."""
    lines = [
        f"Gradients: {result['mb_per_sum']:.2f} MB. Per update, for each learner:",
        "learners   CPU ms    wall ms   of that summing: CPU ms    wall ms",
    ]
    for row in result["rows"]:
        lines.append(
            f"{row['learners']:8}  {row['update_cpu_ms']:7.1f}  {row['update_ms']:9.1f}"
            f"  {row['sum_cpu_ms']:23.2f}  {row['sum_ms']:9.2f}"
        )
    return "\n".join(lines)


def _run(setup: Setup, size: int, updates: int) -> list[dict[str, Any]]:
    """Returns the costs of each of several learners."""
    addresses = [f"localhost:{ports.free_port()}" for _ in range(size)]
    children = [
        Child(f"learner {rank}", _costs, setup, addresses, rank, updates, context=FORK_SERVER) for rank in range(size)
    ]
    try:
        return [each.answer(_START_SECONDS) for each in children]
    except ChildFailed as error:
        raise UserError(f"Measuring {size} learners failed: {error}.") from None
    finally:
        child.kill_all(children)


def _costs(setup: Setup, addresses: list[str], rank: int, updates: int) -> dict[str, Any]:
    """Measures one learner, in a process of its own."""
    threads = setup.topology.learner_threads
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    group: Group = ALONE
    if len(addresses) > 1:
        group = ConnectedGroup(addresses, rank, _START_SECONDS)
    step = parts.learner(setup, threads, group)
    update = _cost(step, updates)
    gradients = [tf.zeros_like(v) for v in make_agent(setup.tasks.spec, setup.config).trainable_variables]
    summed = tf.function(group.sum, autograph=False)
    sums = _cost(lambda: summed(gradients)[0].numpy(), updates) if group.size > 1 else _Cost(0.0, 0.0)
    group.leave()
    return {"update": update, "sum": sums, "mb": sum(4 * gradient.shape.num_elements() for gradient in gradients) / 1e6}


def _cost(work: Callable[[], Any], times: int) -> _Cost:
    for _ in range(_WARM_UP):
        work()
    start, cpu = time.perf_counter(), time.process_time()
    for _ in range(times):
        work()
    return _Cost(1000 * (time.process_time() - cpu) / times, 1000 * (time.perf_counter() - start) / times)

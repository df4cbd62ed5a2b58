"""Measures how the system scales: with real actors on this machine, and with simulated actors.

To the learner, a simulated actor looks like a real one: it has its own connection and, at a set rate, pulls the
parameters and sends one unroll per environment. But it replays recorded unrolls and spends no time on environments and
inference, so that hundreds of simulated actors fit on one machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import time
from typing import Any

from impala_tf.benchmark import parts
from impala_tf.benchmark.measure import Bench, once, together
from impala_tf.benchmark.parts import Step
from impala_tf.benchmark.setup import Setup
from impala_tf.benchmark.whole import WholeSystem
from impala_tf.transport import REPLAY, ports, server
from impala_tf.transport.connection import wait_for_server
from impala_tf.transport.signatures import unroll_signature
from impala_tf.transport.variables import VariableClient
from impala_tf.transport.writer import UnrollWriter

_LOGGER = logging.getLogger(__name__)
_START_SECONDS = 300.0


def measure(setup: Setup, seconds: float) -> dict[str, Any]:
    """Measures everything once.

    Args:
      setup: the run to measure; its number of actors is varied.
      seconds: time for each measurement.

    Returns:
      {"real": one row per number of actors, "connections": one row per number of simulated actors at the same total
      rate, "rates": one row per rate, with and without updates, "queue": one row per queue size}, each a list of dicts.

    Raises:
      UserError: a part or the whole system failed.
    """
    result: dict[str, Any] = {"real": [], "connections": [], "rates": [], "queue": []}
    for num_actors in (1, 2, 4, 8):
        _LOGGER.info("%d real actors", num_actors)
        result["real"].append(real(setup, num_actors, seconds))
    for num_actors in (1, 4, 16, 64, 256):
        _LOGGER.info("%d simulated actors, 100 unrolls/s in total", num_actors)
        result["connections"].append(simulated(setup, num_actors, 100.0, False, seconds))
    for updates in (False, True):
        for rate in (50.0, 100.0, 200.0, 400.0, 800.0):
            with_updates = "with" if updates else "without"
            _LOGGER.info("64 simulated actors, %g unrolls/s in total, %s updates", rate, with_updates)
            result["rates"].append(simulated(setup, 64, rate, updates, seconds))
    for queue_size in (64, 512, 4096):
        _LOGGER.info("a full queue of %d unrolls", queue_size)
        result["queue"].append(queue_memory(setup, queue_size))
    return result


def real(setup: Setup, num_actors: int, seconds: float) -> dict[str, Any]:
    """Measures the whole system with `num_actors` actors."""
    with WholeSystem(setup.with_actors(num_actors)) as system:
        system.wait_until_running()
        system.watch(seconds / 2)
        mark = system.mark()
        behaviour = system.watch(2 * seconds)
        done = system.since(mark)
    return {
        "num_actors": num_actors,
        "frames_per_second": done["frames_per_second"],
        "learner_utilisation": 1 - behaviour["learner_waiting"],
        "policy_lag_mean": behaviour["policy_lag_mean"],
        "peak_memory_mib": sum(done["peak_memory_mib"].values()),
    }


def simulated(setup: Setup, num_actors: int, rate: float, updates: bool, seconds: float) -> dict[str, Any]:
    """Measures simulated actors that send `rate` unrolls/s in total to a learner, with or without updates."""
    port = ports.free_port()
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(Bench(parts.learner_host, setup, port, updates))
        actors = stack.enter_context(Bench(simulated_actors, setup, f"localhost:{port}", num_actors, rate))
        for bench in (host, actors):
            bench.wait_until_ready(_START_SECONDS)
        together([host, actors], seconds / 2, _START_SECONDS)
        taken, sent = together([host, actors], seconds, _START_SECONDS)
    frames = setup.frames_per_unroll
    return {
        "num_actors": num_actors,
        "updates": updates,
        "offered_unrolls_per_second": rate,
        "unrolls_per_second": taken.frames_per_second / frames,
        "frames_per_second": taken.frames_per_second,
        "host_cpu_ms_per_unroll": 1e3 * taken.core_seconds_per_frame * frames,
        "actor_cpu_ms_per_unroll": 1e3 * sent.core_seconds_per_frame * frames,
        "bytes_per_unroll": sent.bytes / sent.frames * frames,
    }


def queue_memory(setup: Setup, queue_size: int) -> dict[str, Any]:
    """Measures the memory that a full queue of `queue_size` unrolls takes in the learner's process."""
    grown = once(fill_queue, setup, queue_size, timeout=_START_SECONDS)
    return {"queue_size": queue_size, "mib": grown / 2**20, "bytes_per_unroll": grown / queue_size}


def simulated_actors(setup: Setup, address: str, num_actors: int, rate: float) -> Step:
    """Simulates actors in one process, which together send `rate` recorded unrolls per second."""
    unrolls, agent = parts.recorded(setup)
    tables = wait_for_server(address, _START_SECONDS)
    variables = VariableClient(address, agent.trainable_variables, _START_SECONDS)
    signature = unroll_signature(setup.tasks.spec, agent.core_state_spec, setup.config.data.unroll_length)
    writers = [UnrollWriter(address, signature, replay=REPLAY in tables) for _ in range(num_actors)]
    num_envs = setup.topology.envs_per_actor
    turns = iter(range(10**9))
    due = time.monotonic()

    def step() -> int:
        nonlocal due
        # Do not catch up on unrolls that are overdue by more than a second, as all are after a pause.
        due = max(due, time.monotonic() - 1.0) + num_envs / rate
        time.sleep(max(0.0, due - time.monotonic()))
        turn = next(turns)
        writer = writers[turn % num_actors]
        variables.refresh()
        for i in range(num_envs):
            writer.write(unrolls[(turn + i) % len(unrolls)])
        taken = writer.flush(timeout=0.5)  # A real actor would wait indefinitely, but this step must return.
        return num_envs * setup.frames_per_unroll if taken else 0

    return step


def fill_queue(setup: Setup, queue_size: int) -> int:
    """Fills a server's queue; returns the growth in bytes of this process's resident memory."""
    unrolls, agent = parts.recorded(setup)
    spec, data = setup.tasks.spec, setup.config.data
    tables = server.load_config(dataclasses.replace(data, queue_size=queue_size))
    signature = unroll_signature(spec, agent.core_state_spec, data.unroll_length)
    running = server.Server(tables, signature, agent.trainable_variables)
    writer = UnrollWriter(running.address, signature)
    for unroll in unrolls[:8]:
        writer.write(unroll)
    writer.flush(timeout=30.0)
    empty = _resident()
    for i in range(queue_size - 8):
        writer.write(unrolls[i % len(unrolls)])
        writer.flush(timeout=30.0, unconfirmed=8)
    writer.flush(timeout=30.0)
    return _resident() - empty


def _resident() -> int:
    """Returns this process's resident memory in bytes."""
    with open("/proc/self/status") as file:
        found = re.search(r"VmRSS:\s+(\d+) kB", file.read())
    assert found, os.uname()
    return 1024 * int(found[1])


def table(result: dict[str, Any]) -> str:
    """Formats the result of `measure` as text."""
    lines = []
    for name, rows in result.items():
        if isinstance(rows, list) and rows:
            lines += ["", name, "  ".join(f"{key:>26}" for key in rows[0])]
            lines += ["  ".join(f"{_text(value):>26}" for value in row.values()) for row in rows]
    return "\n".join(lines)


def _text(value: Any) -> str:
    return str(value) if isinstance(value, (bool, int)) else f"{value:,.2f}"

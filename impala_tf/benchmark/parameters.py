"""Measures what unrolls, updates and parameters cost each process that has a hand in them, in CPU time.

CPU time of a process hardly depends on how busy the machine is, unlike the rates that it reaches. Every process here is
a real one, and every server a real Reverb server; only the actors that pull are light: they pull and do nothing else.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from impala_tf import machine
from impala_tf.benchmark import parts
from impala_tf.benchmark.measure import Bench, Measurement, together
from impala_tf.benchmark.parts import Step
from impala_tf.benchmark.setup import Setup
from impala_tf.networks.agent import make_agent
from impala_tf.transport import ports, server
from impala_tf.transport.relay import Relay
from impala_tf.transport.variables import VariableClient, VariablePublisher

_LOGGER = logging.getLogger(__name__)
_START_SECONDS = 600.0
_PUBLISH_RATE = 10.0
"""How often the learner of these measurements publishes and its relay looks, per second."""
_PULLERS, _PULL_RATE = 8, 1.0
"""Light actors in one process, and how often each pulls per second."""
_PROCESSES = (1, 2, 4)
"""Numbers of such processes."""


def measure(setup: Setup, seconds: float) -> dict[str, Any]:
    """Measures everything once.

    Args:
      setup: the run to measure.
      seconds: time for each measurement.

    Returns:
      {"constants": the CPU times that `projection.project` reads, "wire": one row per type of the parameters on the
      wire, "pulling": one row per number of light actors, directly and through a relay}.

    Raises:
      UserError: a part failed.
    """
    constants = {**_sizes(setup), **_costs(setup, seconds), **_unrolls(setup, seconds)}
    wire = [_wire(setup, dtype, seconds) for dtype in ("float32", "bfloat16")]
    for name in ("publish_cpu_ms", "pull_host_cpu_ms", "pull_actor_cpu_ms", "bytes_per_pull"):
        constants[name] = wire[0][name]
    pulling = _pulling(setup, False, seconds) + _pulling(setup, True, seconds)
    relayed = max((row for row in pulling if row["relay"]), key=lambda row: row["actors"])
    constants["pass_on_cpu_ms"] = relayed["relay_cpu_ms_per_publication"]
    return {"machine": machine.description(), "constants": constants, "wire": wire, "pulling": pulling}


def _sizes(setup: Setup) -> dict[str, Any]:
    data = setup.config.data
    return {
        "frames_per_unroll": setup.frames_per_unroll,
        "batch_size": data.batch_size,
        "envs_per_actor": setup.topology.envs_per_actor,
    }


def _costs(setup: Setup, seconds: float) -> dict[str, float]:
    """Measures environment, inference and update, each alone, in core-microseconds per environment frame."""
    costs = {}
    for name, prepare, argument in (
        ("environment", parts.environment, 1),
        ("inference", parts.inference, 1),
        ("update", parts.learner, 1),
    ):
        _LOGGER.info("%s alone", name)
        (alone,) = _measured(seconds, (prepare, setup, argument))
        costs[f"{name}_core_us_per_frame"] = 1e6 * alone.core_seconds_per_frame
    return costs


def _unrolls(setup: Setup, seconds: float) -> dict[str, float]:
    """Measures one actor's writer that sends unrolls as fast as the learner's process takes and batches them."""
    _LOGGER.info("unrolls to the learner")
    port = ports.free_port()
    host, writer = _measured(
        seconds, (parts.learner_host, setup, port, False), (parts.transport, setup, f"localhost:{port}")
    )
    frames = setup.frames_per_unroll
    return {
        "unroll_host_cpu_ms": 1e3 * host.core_seconds_per_frame * frames,
        "unroll_actor_cpu_ms": 1e3 * writer.core_seconds_per_frame * frames,
        "bytes_per_unroll": writer.bytes / writer.frames * frames,
    }


def _wire(setup: Setup, dtype: str, seconds: float) -> dict[str, Any]:
    """Measures publishing and pulling parameters that have the type `dtype` on the wire."""
    _LOGGER.info("parameters as %s", dtype)
    (publishing,) = _measured(seconds, (publisher, setup, ports.free_port(), _PUBLISH_RATE, dtype))
    port = ports.free_port()
    serving, pulling = _measured(
        seconds, (publisher, setup, port, 0.0, dtype), (puller, setup, f"localhost:{port}", 1, 20.0, dtype)
    )
    return {
        "dtype": dtype,
        "publish_cpu_ms": 1e3 * publishing.cpu_seconds / publishing.frames,
        "pull_host_cpu_ms": 1e3 * serving.cpu_seconds / pulling.frames,
        "pull_actor_cpu_ms": 1e3 * pulling.cpu_seconds / pulling.frames,
        "bytes_per_pull": pulling.bytes / pulling.frames,
        "pulls": pulling.frames,
    }


def _pulling(setup: Setup, relayed: bool, seconds: float) -> list[dict[str, Any]]:
    """Measures a learner that publishes while more and more actors pull from it, or from a relay on its machine."""
    port, own = ports.free_port(), ports.free_port()
    rows = []
    with contextlib.ExitStack() as stack:

        def start(prepare: Callable[..., Step], *arguments: Any) -> Bench:
            bench = stack.enter_context(Bench(prepare, *arguments))
            bench.wait_until_ready(_START_SECONDS)  # One after the other: each needs the one before.
            return bench

        serving = [start(publisher, setup, port, _PUBLISH_RATE, "float32")]
        if relayed:
            serving.append(start(relay, f"localhost:{port}", own))
        source = f"localhost:{own if relayed else port}"
        pullers = [start(puller, setup, source, _PULLERS, _PULL_RATE, "float32") for _ in range(max(_PROCESSES))]
        for processes in _PROCESSES:
            _LOGGER.info("%d actors pull%s", processes * _PULLERS, " from a relay" if relayed else "")
            measured = together([*serving, *pullers[:processes]], seconds, _START_SECONDS)
            host, pulled = measured[0], measured[len(serving) :]
            rows.append(
                {
                    "actors": processes * _PULLERS,
                    "relay": relayed,
                    "publications_per_second": host.frames_per_second,
                    "pulls_per_second": sum(one.frames_per_second for one in pulled),
                    "learner_cores": host.cpu_seconds / host.seconds,
                    "relay_cores": measured[1].cpu_seconds / measured[1].seconds if relayed else 0.0,
                    "actor_cpu_ms_per_pull": 1e3 * sum(one.cpu_seconds for one in pulled) / _frames(pulled),
                    "relay_cpu_ms_per_publication": 0.0,
                }
            )
        if relayed:
            _LOGGER.info("a relay that nobody pulls from")
            _, alone = together(serving, seconds, _START_SECONDS)
            for row in rows:
                row["relay_cpu_ms_per_publication"] = 1e3 * alone.cpu_seconds / max(alone.frames, 1)
    return rows


def _frames(measured: Sequence[Measurement]) -> int:
    return sum(one.frames for one in measured)


def _measured(seconds: float, *works: tuple) -> list[Measurement]:
    """Starts processes, each with (prepare, *arguments), one after the other, and measures them at the same time."""
    benches: list[Bench] = []
    with contextlib.ExitStack() as stack:
        for prepare, *arguments in works:
            benches.append(stack.enter_context(Bench(prepare, *arguments)))
            benches[-1].wait_until_ready(_START_SECONDS)
        measured = together(benches, seconds, _START_SECONDS)
    return measured


# The functions below run in the measured processes.


def publisher(setup: Setup, port: int, rate: float, dtype: str) -> Step:
    """Publishes the network's parameters `rate` times a second from a server of its own; 0: once and for all."""
    variables = make_agent(setup.tasks.spec, setup.config).trainable_variables
    on_wire = [tf.Variable(tf.zeros(variable.shape, dtype)) for variable in variables]
    running = server.Server(server.parameters_only(), None, on_wire, port)
    publishing = VariablePublisher(running.address, variables)
    publishing._copy = tf.function(lambda: [tf.cast(variable, dtype) for variable in variables], autograph=False)
    steps, pace = iter(range(10**9)), _pace(rate or 10.0)

    def publish() -> None:
        publishing.publish(next(steps))
        publishing.wait_until_pushed(10.0)

    def step() -> int:
        pace()
        if rate:
            publish()
        assert running is not None  # It would stop if nothing held it.
        return int(rate > 0)

    publish()
    return step


class _CastingClient(VariableClient):
    """Pulls parameters of another type than that of its variables."""

    def _pull_and_assign(self) -> None:
        values = self._container.pull("variables")
        for variable, value in zip(tf.nest.flatten(self._variables), tf.nest.flatten(values)):
            variable.assign(tf.cast(value, variable.dtype))


def puller(setup: Setup, address: str, actors: int, rate: float, dtype: str) -> Step:
    """Pulls as `actors` actors do which have a connection each and pull `rate` times a second; one pull a step."""
    kind = VariableClient if dtype == "float32" else _CastingClient
    agents = [make_agent(setup.tasks.spec, setup.config).trainable_variables for _ in range(actors)]
    clients = [kind(address, variables, _START_SECONDS) for variables in agents]
    pace, turns = _pace(rate * actors), iter(range(10**9))
    for client in clients:
        client.refresh()  # Traces.

    def step() -> int:
        pace()
        clients[next(turns) % actors].refresh()
        return 1

    return step


def relay(address: str, port: int) -> Step:
    """Passes on what a `publisher` publishes; returns the number of publications passed on."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    relayed, pace = Relay(address, port=port, timeout=_START_SECONDS), _pace(_PUBLISH_RATE)

    def step() -> int:
        pace()
        return int(relayed.pass_on())

    return step


def _pace(rate: float) -> Callable[[], None]:
    """Returns a function that waits so that it returns `rate` times a second; it does not catch up after a pause."""
    due = 0.0

    def wait() -> None:
        nonlocal due
        due = max(due + 1 / rate, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))

    return wait


def table(result: dict[str, Any]) -> str:
    """Formats the result of `measure` as text."""
    lines = [f"{name:>28}  {value:,.3f}" for name, value in result["constants"].items()]
    for name in ("wire", "pulling"):
        rows = result[name]
        lines += ["", name, "  ".join(f"{key:>{len(key) + 1}}" for key in rows[0])]
        lines += ["  ".join(f"{_text(value):>{len(key) + 1}}" for key, value in row.items()) for row in rows]
    return "\n".join(lines)


def _text(value: Any) -> str:
    return f"{value:,.2f}" if isinstance(value, float) else str(value)

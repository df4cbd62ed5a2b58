"""Measures parts and whole and compares them: limit, efficiency, and the ratio to the environment alone.

The limit is the frames/s of an ideal system that only steps environments, infers and learns, each at the cost measured
alone: cores / (e + i + l), with costs in core-seconds per frame. If the learner runs on a GPU, it takes no time from
the cores; the limit is then the smaller of cores / (e + i) and the learner's own frames/s.

Parts and whole are measured in turns of a few seconds, many times over, one paused while the other runs: within
minutes, the speed of a shared machine changes by more than the differences of interest.
"""

from __future__ import annotations

import contextlib
import logging
import statistics
from collections.abc import Callable
from typing import Any

from impala_tf.benchmark import parts
from impala_tf.benchmark.measure import Bench, Measurement, learner_device, together, total
from impala_tf.benchmark.setup import Setup
from impala_tf.benchmark.whole import WholeSystem
from impala_tf.machine import cores
from impala_tf.transport import ports

_LOGGER = logging.getLogger(__name__)
_START_SECONDS = 300.0
_TURNS = 5


def measure(setup: Setup, seconds: float, repeats: int) -> dict[str, Any]:
    """Measures every part and the whole `repeats` times, each time in new processes, and compares them.

    Args:
      setup: the run to measure.
      seconds: time to measure each part, in several turns; the whole system runs twice as long.
      repeats: number of rounds; minimum, median and maximum over them are reported.

    Returns:
      A JSON-able dict; see `table`.

    Raises:
      UserError: a part or the whole system failed.
    """
    config, topology = setup.config, setup.topology
    device = learner_device()
    rounds = []
    for number in range(1, repeats + 1):
        _LOGGER.info("round %d of %d", number, repeats)
        rounds.append(_round(setup, seconds, device != "CPU"))
    return {
        "environment": config.environment.env,
        "torso": config.network.torso,
        "core": config.network.core,
        "precision": config.network.precision,
        "architecture": config.launch.architecture,
        "inference": config.launch.inference,
        "unroll_length": config.data.unroll_length,
        "batch_size": config.data.batch_size,
        "num_actors": topology.num_actors,
        "envs_per_actor": topology.envs_per_actor,
        "learner_threads": topology.learner_threads,
        "cores": cores(),
        "device": device,
        "seconds": seconds,
        "results": {name: _spread([r[name] for r in rounds]) for name in rounds[0] if name != "whole"},
        "whole": {name: _spread_nested([r["whole"][name] for r in rounds]) for name in rounds[0]["whole"]},
    }


def _round(setup: Setup, seconds: float, on_gpu: bool) -> dict[str, Any]:
    _LOGGER.info("  starting the parts")
    with contextlib.ExitStack() as stack:

        def bench(prepare: Callable[..., parts.Step], *arguments: Any) -> Bench:
            return stack.enter_context(Bench(prepare, setup, *arguments))

        port = ports.free_port()
        # Each group has the machine to itself. The learner is measured with one thread and with all.
        groups = {
            "environment": [bench(parts.environment, i) for i in range(cores())],
            "inference": [bench(parts.inference, 1)],
            **{f"learner {n}": [bench(parts.learner, n)] for n in sorted({1, cores()})},
            "transport": [bench(parts.learner_host, port, False), bench(parts.transport, f"localhost:{port}")],
        }
        for group in groups.values():
            for one in group:
                one.wait_until_ready(_START_SECONDS)
        _LOGGER.info("  starting the whole system")
        system = stack.enter_context(WholeSystem(setup))
        system.wait_until_running()
        system.watch(seconds)
        behaviour = system.watch(2 * seconds)
        mark = system.mark()
        measured: dict[str, list[list[Measurement]]] = {name: [] for name in groups}
        for turn in range(1, _TURNS + 1):
            _LOGGER.info("  turn %d of %d", turn, _TURNS)
            system.watch(2 * seconds / _TURNS)
            system.pause()
            for name, group in groups.items():
                measured[name].append(together(group, seconds / _TURNS, _START_SECONDS))
            system.resume()
        system.watch(0.0)
        done = system.since(mark)
    totals = {name: [total(turns) for turns in zip(*results)] for name, results in measured.items()}
    return _compare(totals, {**done, **behaviour}, on_gpu)


def _compare(measured: dict[str, list[Measurement]], system: dict[str, Any], on_gpu: bool) -> dict[str, Any]:
    """Computes the numbers of one round from the measurements of the parts and of the whole system."""

    def cheapest(name: str) -> Measurement:
        return min((m for key in measured if key.startswith(name) for m in measured[key]), key=_cost)

    environment, inference, learner = cheapest("environment"), cheapest("inference"), cheapest("learner")
    e, i, l = _cost(environment), _cost(inference), _cost(learner)  # noqa: E741
    limit = min(cores() / (e + i), learner.frames_per_second) if on_gpu else cores() / (e + i + l)
    environment_alone = sum(m.frames_per_second for m in measured["environment"])
    read, written = measured["transport"]
    whole = system["frames_per_second"]
    return {
        "environment_core_us_per_frame": 1e6 * e,
        "inference_core_us_per_frame": 1e6 * i,
        "learner_core_us_per_frame": 1e6 * l,
        "transport_core_us_per_frame": 1e6 * (_cost(read) + _cost(written)),
        "bytes_per_frame": written.bytes / written.frames,
        "environment_frames_per_second": environment_alone,
        "inference_frames_per_second": inference.frames_per_second,
        "learner_frames_per_second": learner.frames_per_second,
        "transport_frames_per_second": read.frames_per_second,
        "whole_frames_per_second": whole,
        "limit_frames_per_second": limit,
        "efficiency": whole / limit,
        "ratio_to_environment": whole / environment_alone,
        "whole": system,
    }


def _cost(measurement: Measurement) -> float:
    return measurement.core_seconds_per_frame


def _spread(values: list[float]) -> dict[str, float]:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def _spread_nested(values: list[Any]) -> Any:
    if isinstance(values[0], dict):
        return {key: _spread([value[key] for value in values]) for key in values[0] if all(key in v for v in values)}
    return _spread(values)


def table(result: dict[str, Any]) -> str:
    """Formats the result of `measure` as text."""
    rows, system = result["results"], result["whole"]

    def line(name: str, spread: dict[str, float], form: str) -> str:
        low, middle, high = (form.format(spread[key]) for key in ("min", "median", "max"))
        return f"{name:<44}{middle:>12}   {low} to {high}"

    lines = [
        f"{result['environment']}, {result['architecture']}, torso {result['torso']}, core {result['core']}, "
        f"{result['precision']}, {result['inference']} inference, "
        f"T = {result['unroll_length']}, B = {result['batch_size']}, "
        f"{result['num_actors']} x {result['envs_per_actor']} environments, "
        f"{result['cores']} cores, learner on {result['device']}",
        "",
        f"{'':<44}{'median':>12}   range",
    ]
    for part in ("environment", "inference", "learner", "transport"):
        lines.append(line(f"{part}: core-microseconds per frame", rows[f"{part}_core_us_per_frame"], "{:.1f}"))
    for part in ("environment", "inference", "learner", "transport"):
        lines.append(line(f"{part} alone: frames/s", rows[f"{part}_frames_per_second"], "{:,.0f}"))
    lines += [
        line("whole system: frames/s", rows["whole_frames_per_second"], "{:,.0f}"),
        line("limit: frames/s", rows["limit_frames_per_second"], "{:,.0f}"),
        line("efficiency (whole / limit)", rows["efficiency"], "{:.2f}"),
        line("ratio to the environment alone", rows["ratio_to_environment"], "{:.2f}"),
        line("bytes on the wire, per frame", rows["bytes_per_frame"], "{:,.0f}"),
        line("policy lag, mean", system["policy_lag_mean"], "{:.2f}"),
        line("policy lag, max", system["policy_lag_max"], "{:.0f}"),
        line("learner waiting for data, share of time", system["learner_waiting"], "{:.2f}"),
    ]
    for who in ("actor", "central_inference"):
        for what, spread in system[f"{who}_shares"].items():
            lines.append(line(f"{who.replace('_', ' ')}: {what}, share of time", spread, "{:.2f}"))
    for name, spread in system["cpu_seconds_per_1000_frames"].items():
        lines.append(line(f"{name}: CPU seconds per 1000 frames", spread, "{:.3f}"))
    for name, spread in system["peak_memory_mib"].items():
        lines.append(line(f"{name}: peak memory, MiB", spread, "{:,.0f}"))
    return "\n".join(lines)

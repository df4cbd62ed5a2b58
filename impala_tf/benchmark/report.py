"""From measurements to the numbers that matter: limit, efficiency, and the ratio to the environment alone.

The limit is the frames/s of a machine that did nothing but step environments, infer and learn, each as cheaply as it
was measured alone: cores / (e + i + l), in core-seconds per frame. Where the learner runs on a GPU, its time is not the
cores': the limit is then the smaller of cores / (e + i) and what the learner reaches alone.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from impala_tf.benchmark import parts, whole
from impala_tf.benchmark.measure import Measurement, in_processes
from impala_tf.config import Config
from impala_tf.runtime.layout import cores, envs_per_actor, learner_threads, num_actors
from impala_tf.transport import ports

_START_SECONDS = 180.0


def measure(config: Config, seconds: float, repeats: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Measures every part and the whole, `repeats` times each in turn, and compares them.

    Args:
      config: environment, network, unroll, batch, and layout of the actors.
      seconds: that each measurement takes, warm-up and start excepted.
      repeats: of everything; reported are the minimum, the median and the maximum.
      say: told what is being measured.

    Returns:
      A JSON-able dict; see `table`.

    Raises:
      UserError: as the parts and the whole.
    """
    (device,) = in_processes(_device, [()], _START_SECONDS)
    on_gpu = device != "CPU"
    rounds = []
    for number in range(repeats):
        say(f"round {number + 1} of {repeats}: the parts")
        rounds.append(_round(config, seconds, on_gpu, say))
    return {
        "environment": config.environment.env,
        "torso": config.network.torso,
        "core": config.network.core,
        "unroll_length": config.data.unroll_length,
        "batch_size": config.data.batch_size,
        "num_actors": num_actors(config),
        "envs_per_actor": envs_per_actor(config),
        "learner_threads": learner_threads(config),
        "cores": cores(),
        "device": device,
        "seconds": seconds,
        "results": {name: _spread([r[name] for r in rounds]) for name in rounds[0] if name != "whole"},
        "whole": {name: _spread_nested([r["whole"][name] for r in rounds]) for name in rounds[0]["whole"]},
    }


def _round(config: Config, seconds: float, on_gpu: bool, say: Callable[[str], None]) -> dict[str, Any]:
    timeout = 4 * seconds + _START_SECONDS

    def cheapest(work: Callable[..., Measurement], counts: set[int]) -> Measurement:
        """By the number of threads; each alone on the machine."""
        results = [in_processes(work, [(config, n, seconds)], timeout)[0] for n in sorted(counts)]
        return min(results, key=lambda m: m.core_seconds_per_frame)

    say("  environment")
    alone = in_processes(parts.environment, [(config, 0, seconds)], timeout)
    everywhere = in_processes(parts.environment, [(config, i, seconds) for i in range(cores())], timeout)
    say("  inference")
    inference = cheapest(parts.inference, {1})
    say("  learner")
    learner = cheapest(parts.learner, {1, cores()})
    say("  transport")
    (read, (written, bytes_per_unroll)) = _transport(config, seconds, timeout)
    say("  the whole system")
    system = whole.run(config, warm_up=seconds, seconds=3 * seconds)

    environment = min(*alone, *everywhere, key=lambda m: m.core_seconds_per_frame)
    e, i, l = (m.core_seconds_per_frame for m in (environment, inference, learner))  # noqa: E741
    limit = min(cores() / (e + i), learner.frames_per_second) if on_gpu else cores() / (e + i + l)
    environment_alone = sum(m.frames_per_second for m in everywhere)
    return {
        "environment_core_us_per_frame": 1e6 * e,
        "inference_core_us_per_frame": 1e6 * i,
        "learner_core_us_per_frame": 1e6 * l,
        "transport_core_us_per_frame": 1e6 * (read.core_seconds_per_frame + written.core_seconds_per_frame),
        "bytes_per_unroll": bytes_per_unroll,
        "environment_frames_per_second": environment_alone,
        "inference_frames_per_second": inference.frames_per_second,
        "learner_frames_per_second": learner.frames_per_second,
        "transport_frames_per_second": read.frames_per_second,
        "whole_frames_per_second": system["frames_per_second"],
        "limit_frames_per_second": limit,
        "efficiency": system["frames_per_second"] / limit,
        "ratio_to_environment": system["frames_per_second"] / environment_alone,
        "whole": system,
    }


def _transport(config: Config, seconds: float, timeout: float) -> list[Any]:
    port = ports.free_port()
    return in_processes(_either_side, [(config, port, seconds, side) for side in ("out", "in")], timeout)


def _either_side(config: Config, port: int, seconds: float, side: str) -> Any:
    return (parts.transport_out if side == "out" else parts.transport_in)(config, port, seconds)


def _device() -> str:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else "CPU"


def _spread(values: list[float]) -> dict[str, float]:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def _spread_nested(values: list[Any]) -> Any:
    if isinstance(values[0], dict):
        return {key: _spread([value[key] for value in values]) for key in values[0] if all(key in v for v in values)}
    return _spread(values)


def table(result: dict[str, Any]) -> str:
    """The report as text."""
    rows, system = result["results"], result["whole"]

    def line(name: str, spread: dict[str, float], form: str) -> str:
        low, middle, high = (form.format(spread[key]) for key in ("min", "median", "max"))
        return f"{name:<44}{middle:>12}   {low} to {high}"

    lines = [
        f"{result['environment']}, torso {result['torso']}, core {result['core']}, T = {result['unroll_length']}, "
        f"B = {result['batch_size']}, {result['num_actors']} x {result['envs_per_actor']} environments, "
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
        line("bytes per unroll on the wire", rows["bytes_per_unroll"], "{:,.0f}"),
        line("policy lag, mean", system["policy_lag_mean"], "{:.2f}"),
        line("policy lag, max", system["policy_lag_max"], "{:.0f}"),
        line("learner waits for data, share", system["learner_waiting"], "{:.2f}"),
    ]
    for what, spread in system["actor_shares"].items():
        lines.append(line(f"actor's time: {what}, share", spread, "{:.2f}"))
    for name, spread in system["cpu_seconds_per_1000_frames"].items():
        lines.append(line(f"{name}: CPU seconds per 1000 frames", spread, "{:.3f}"))
    for name, spread in system["peak_memory_mib"].items():
        lines.append(line(f"{name}: peak memory, MiB", spread, "{:,.0f}"))
    return "\n".join(lines)

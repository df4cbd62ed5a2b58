"""What `run.gpu_check` measures in a process of its own: the machine, or a SavedModel. Writes a JSON file."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import logging
import pathlib
import platform
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Any

from absl import flags

from impala_tf import flags as impala_flags
from impala_tf.errors import UserError

from . import command

_LOGGER = logging.getLogger("impala_tf.run")
_LIBRARIES = ("tensorflow", "dm-reverb", "tf-agents", "numpy", "gymnasium", "ale-py", "nvidia-cudnn-cu12")
_STEPS = 50
_BATCH = 8


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _driver() -> str:
    """Returns what the driver says about its GPUs, one in a line; "" without a driver."""
    if not (program := shutil.which("nvidia-smi")):
        return ""
    fields = "name,driver_version,memory.total,memory.used"
    line = [program, f"--query-gpu={fields}", "--format=csv,noheader"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip() or done.stderr.strip()


def _xla_tools() -> dict[str, str]:
    """Where XLA can find the assembler and the library of mathematical functions that it needs on a GPU."""
    import tensorflow as tf

    wheel = pathlib.Path(tf.__file__).parents[1] / "nvidia" / "cuda_nvcc"
    found = {}
    for name, path in (("ptxas", "bin/ptxas"), ("libdevice", "nvvm/libdevice/libdevice.10.bc")):
        places = [wheel / path, *sorted(pathlib.Path("/usr/local").glob(f"cuda*/{path}"))]
        found[name] = next((str(place) for place in places if place.exists()), "not found")
    return found


def _seconds(call: Callable[[], Any]) -> list[float]:
    """Times two calls: the first one includes loading, and compiling if need be."""
    taken = []
    for _ in range(2):
        start = time.perf_counter()
        call().numpy()
        taken.append(round(time.perf_counter() - start, 4))
    return taken


def _machine(gpus: list[Any]) -> dict[str, Any]:
    """Versions and devices, and first calls of what the networks need."""
    import tensorflow as tf

    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    result = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": {name: _version(name) for name in _LIBRARIES},
        "tensorflow_build": {name: str(value) for name, value in tf.sysconfig.get_build_info().items()},
        "driver": _driver(),
        "gpus": [{name: str(value) for name, value in found.items()} for found in details],
        "xla_tools": _xla_tools(),
    }
    _LOGGER.info(json.dumps(result, indent=1))  # Before what may fail.
    images = tf.ones([256, 84, 84, 4])
    weights = tf.Variable(tf.ones([8, 8, 4, 16]) / 256)

    def convolution() -> tf.Tensor:  # Not converted by AutoGraph, whose file would stay if the process is killed.
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.nn.relu(tf.nn.conv2d(images, weights, 4, "SAME")))
        return tf.reduce_sum(tape.gradient(loss, weights))

    result["first_and_second_call_seconds"] = {
        "product": _seconds(lambda: tf.reduce_sum(tf.linalg.matmul(tf.ones([512, 512]), tf.ones([512, 512])))),
        "convolution": _seconds(tf.function(convolution, autograph=False)),
        "convolution_xla": _seconds(tf.function(convolution, autograph=False, jit_compile=True)),
    }
    return result


def _model(gpus: list[Any]) -> dict[str, Any]:
    """Loads a SavedModel and runs its policy on fixed inputs."""
    import numpy as np
    import tensorflow as tf

    from impala_tf.export.saved_model import SavedPolicy
    from impala_tf.structures import AgentInput

    tf.config.experimental.enable_tensor_float_32_execution(False)  # To be compared with the CPU's results.
    policy, rng = SavedPolicy(flags.FLAGS.saved_model), np.random.default_rng(0)
    spec = policy.metadata["observation"]
    observation = rng.integers(0, 2, (_BATCH, *spec["shape"])).astype(spec["dtype"])
    zeros = (np.zeros(_BATCH, np.float32), np.zeros(_BATCH, np.int32))
    state = policy.initial_state(_BATCH)
    start = np.arange(_BATCH) % 2 == 0
    for _ in range(3):  # So that the core state counts.
        outputs = policy.step(AgentInput(observation, *zeros, start), state)
        state = outputs.core_state
    begin = time.perf_counter()
    for _ in range(_STEPS):
        policy.step(AgentInput(observation, *zeros, start), state)
    return {
        "ms_per_step": 1e3 * (time.perf_counter() - begin) / _STEPS,
        "logits": outputs.logits.tolist(),
        "gpu_bytes": tf.config.experimental.get_memory_info("GPU:0")["peak"] if gpus else 0,
    }


def _main() -> int:
    import tensorflow as tf

    if flags.FLAGS.hide_gpu:
        tf.config.set_visible_devices([], "GPU")
    gpus = tf.config.get_visible_devices("GPU")
    if flags.FLAGS.need_gpu and not gpus:
        _LOGGER.info("driver: %s; XLA's tools: %s", _driver() or "none", _xla_tools())
        raise UserError(
            "TensorFlow sees no GPU. Is NVIDIA's driver loaded (nvidia-smi), and is the extra [cuda] installed? "
            "TF_CPP_MIN_LOG_LEVEL=0 shows which library TensorFlow misses. --no_gpu checks the rest on the CPU."
        )
    result = {"machine": _machine, "model": _model}[flags.FLAGS.what](gpus)
    pathlib.Path(flags.FLAGS.output).write_text(json.dumps(result, indent=1) + "\n")
    return 0


def main() -> None:
    """Entry point of `python -m run.gpu_probe`."""
    define = functools.partial(impala_flags.define_own, "The probe")
    define("what", "machine", "What to look at.", choices=("machine", "model"))
    define("saved_model", "", "With --what=model: folder of a SavedModel.", path=True)
    define("output", "gpu_probe.json", "JSON file to write.", path=True)
    define("need_gpu", False, "Fail if TensorFlow sees no GPU.")
    define("hide_gpu", False, "Use the CPU.")
    command.run(_main, __doc__)


if __name__ == "__main__":
    main()

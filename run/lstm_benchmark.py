"""Times forward and backward passes of the LSTM core's implementations: `python -m run.lstm_benchmark --threads=1`."""

from __future__ import annotations

import json
import os
import pathlib
import time

from absl import app, flags

flags.DEFINE_integer("threads", 1, "Intra-op threads.", lower_bound=1)
flags.DEFINE_integer("unroll_length", 20, "T, agent steps per unroll.", lower_bound=1)
flags.DEFINE_integer("batch_size", 32, "B, unrolls per batch.", lower_bound=1)
flags.DEFINE_integer("features", 256, "F, features from torso and instruction.", lower_bound=1)
flags.DEFINE_integer("repeats", 15, "Runs of each implementation; reports the median.", lower_bound=1)
flags.DEFINE_string("output", "", "JSON file to write the times to; empty: none.")

_NUM_ACTIONS = 9
_P_EPISODE_START = 0.01


def _main(argv: list[str]) -> None:
    import numpy as np
    import tensorflow as tf

    from impala_tf.networks.cores import LSTMCore

    options = flags.FLAGS
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    rng, shape = np.random.default_rng(0), (options.unroll_length + 1, options.batch_size)
    features = tf.constant(rng.normal(size=(*shape, options.features)), tf.float32)
    others = (tf.zeros(shape), tf.zeros(shape, tf.int32), tf.constant(rng.random(shape) < _P_EPISODE_START))

    def gradients(core: LSTMCore) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(features)
            outputs, _ = core.unroll(features, *others, core.initial_state(options.batch_size))
            loss = tf.reduce_sum(tf.sin(outputs))
        return tape.gradient(loss, [features, *core.trainable_variables])

    functions, milliseconds = {}, dict[str, list[float]]()
    for kernel, xla in (("loop", False), ("loop", True), ("packed", False)):
        core = LSTMCore(options.features, _NUM_ACTIONS, kernel=kernel)
        name = kernel + (", XLA" if xla else "")
        functions[name] = tf.function(lambda core=core: gradients(core), jit_compile=xla, autograph=False)
        milliseconds[name] = []
    for _ in range(options.repeats + 1):  # The first call compiles.
        for name, function in functions.items():
            start = time.perf_counter()
            function()[0].numpy()
            milliseconds[name].append(1e3 * (time.perf_counter() - start))
    gpus = len(tf.config.get_visible_devices("GPU"))
    print(f"{os.cpu_count()} cores, {gpus} GPUs, {options.threads} threads; [T + 1, B] = {list(shape)}")
    for name, (first, *rest) in milliseconds.items():
        print(f"{name:12s} {np.median(rest):7.1f} ms (fastest {min(rest):.1f}; first call {first / 1e3:.1f} s)")
    if options.output:
        times = {
            name: {"median_ms": float(np.median(rest)), "fastest_ms": min(rest), "first_call_ms": first}
            for name, (first, *rest) in milliseconds.items()
        }
        sizes = {"entries": shape[0], "batch_size": shape[1], "threads": options.threads, "gpus": gpus}
        pathlib.Path(options.output).write_text(json.dumps({**sizes, "times": times}, indent=1) + "\n")


if __name__ == "__main__":
    app.run(_main)

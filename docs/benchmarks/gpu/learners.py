"""Times updates alone: `python docs/benchmarks/gpu/learners.py --torso=deep --xla=off`.

Takes the flags of impala-train. Several may be started together: each prepares, and then they measure one by one.
"""

import fcntl
import pathlib
import tempfile
import time

from impala_tf.benchmark import parts
from impala_tf.benchmark.measure import repeat
from impala_tf.run import measuring


def _measure(setup):
    start = time.perf_counter()
    step = parts.learner(setup, 8)
    first = time.perf_counter() - start
    for _ in range(5):
        step()
    with open(pathlib.Path(tempfile.gettempdir(), "learners.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = repeat(step, 3.0)
    frames = setup.config.data.fresh_batch_size * setup.frames_per_unroll
    result = {
        "first_update_s": first,
        "ms_per_update": 1e3 * frames / done.frames_per_second,
        "frames_per_second": done.frames_per_second,
        "core_us_per_frame": 1e6 * done.core_seconds_per_frame,
    }
    return result, str(result)


measuring.run(_measure, "learners_output.json", __doc__)

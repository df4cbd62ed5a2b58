"""Measurements in processes of their own, so that none inherits another's threads, caches or memory."""

from __future__ import annotations

import concurrent.futures
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

from impala_tf import quiet
from impala_tf.errors import UserError
from impala_tf.runtime import forking


class Measurement(NamedTuple):
    """What some work cost.

    Attributes:
      frames: environment frames that were worked on.
      seconds: of wall time.
      cpu_seconds: of processor time, all threads of the process together.
    """

    frames: int
    seconds: float
    cpu_seconds: float

    @property
    def frames_per_second(self) -> float:
        """Frames per second of wall time."""
        return self.frames / self.seconds

    @property
    def core_seconds_per_frame(self) -> float:
        """Processor time per frame."""
        return self.cpu_seconds / self.frames


def repeat(step: Callable[[], int], seconds: float) -> Measurement:
    """Calls `step`, which returns the frames that it worked on, for `seconds` after a fifth of that to warm up."""
    start = time.perf_counter()
    while time.perf_counter() - start < seconds / 5:
        step()
    start, cpu, frames = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < seconds:
        frames += step()
    return Measurement(frames, time.perf_counter() - start, time.process_time() - cpu)


def in_processes(work: Callable[..., Any], arguments: Sequence[tuple], timeout: float) -> list[Any]:
    """Results of `work(*a)` for each `a` in `arguments`, all at the same time, each in a new process.

    Raises:
      UserError: what `work` raised; or one of the processes died or was not done within `timeout` seconds.
    """
    with concurrent.futures.ProcessPoolExecutor(len(arguments), forking.context, initializer=_quiet) as pool:
        futures = [pool.submit(work, *a) for a in arguments]
        try:
            return [future.result(timeout) for future in futures]
        except BrokenProcessPool:
            raise UserError(f"A process that measured {work.__name__} died.") from None
        except concurrent.futures.TimeoutError:
            for process in list(pool._processes.values()):
                process.kill()
            raise UserError(f"Measuring {work.__name__} took more than {timeout:g} s.") from None


def _quiet() -> None:
    quiet.native_stderr(os.devnull)

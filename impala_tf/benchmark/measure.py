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
from impala_tf.processes import forking

_END_SECONDS = 5.0


class Measurement(NamedTuple):
    """What some work cost.

    Attributes:
      frames: environment frames that were worked on.
      seconds: of wall time.
      cpu_seconds: of processor time, all threads of the process together.
      bytes: that crossed the loopback network meanwhile, this work's or not; 0 where Linux does not say.
    """

    frames: int
    seconds: float
    cpu_seconds: float
    bytes: int = 0

    @property
    def frames_per_second(self) -> float:
        """Frames per second of wall time."""
        return self.frames / self.seconds

    @property
    def core_seconds_per_frame(self) -> float:
        """Processor time per frame."""
        return self.cpu_seconds / self.frames


def total(measurements: Sequence[Measurement]) -> Measurement:
    """Successive measurements of the same work as one."""
    return Measurement(*(sum(column) for column in zip(*measurements)))


def repeat(step: Callable[[], int], seconds: float) -> Measurement:
    """Calls `step`, which returns the frames that it worked on, for `seconds`; the first call does not count."""
    step()
    start, cpu, carried, frames = time.perf_counter(), time.process_time(), _loopback_bytes(), 0
    while time.perf_counter() - start < seconds:
        frames += step()
    return Measurement(frames, time.perf_counter() - start, time.process_time() - cpu, _loopback_bytes() - carried)


class Bench:
    """Work in a process of its own that rests until it is measured, as often as one likes. Use it in a `with`."""

    def __init__(self, prepare: Callable[..., Callable[[], int]], *arguments: Any):
        """Starts the process, which calls `prepare(*arguments)` for a step; see `repeat`."""
        self._name = prepare.__name__
        self._pipe, theirs = forking.context.Pipe()
        self._process = forking.context.Process(target=_serve, args=(theirs, prepare, arguments), daemon=True)
        self._process.start()
        theirs.close()

    def wait_until_ready(self, timeout: float) -> None:
        """Waits until the step is there.

        Raises:
          UserError: what `prepare` raised; or the process died or took more than `timeout` seconds.
        """
        self._answer(timeout)

    def begin(self, seconds: float) -> None:
        """Starts a measurement."""
        self._pipe.send(seconds)

    def end(self, timeout: float) -> Measurement:
        """Waits for the measurement that `begin` started; raises as `wait_until_ready`."""
        return self._answer(timeout)

    def _answer(self, timeout: float) -> Any:
        if not self._pipe.poll(timeout):
            raise UserError(f"Measuring {self._name} took more than {timeout:g} s.")
        try:
            answer = self._pipe.recv()
        except EOFError:
            raise UserError(f"The process of {self._name} died.") from None
        if isinstance(answer, UserError):
            raise answer
        return answer

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join(_END_SECONDS)


def together(benches: Sequence[Bench], seconds: float, timeout: float) -> list[Measurement]:
    """Measures several at the same time."""
    for bench in benches:
        bench.begin(seconds)
    return [bench.end(timeout) for bench in benches]


def once(work: Callable[..., Any], *arguments: Any, timeout: float) -> Any:
    """The result of `work(*arguments)`, in a new process.

    Raises:
      UserError: what `work` raised; or the process died or took more than `timeout` seconds.
    """
    pool = concurrent.futures.ProcessPoolExecutor(1, forking.context, initializer=_quiet)
    try:
        return pool.submit(work, *arguments).result(timeout)
    except BrokenProcessPool:
        raise UserError(f"The process of {work.__name__} died.") from None
    except concurrent.futures.TimeoutError:
        for process in list(pool._processes.values()):
            process.kill()
        raise UserError(f"{work.__name__} took more than {timeout:g} s.") from None
    finally:
        pool.shutdown()


def _serve(pipe: Any, prepare: Callable[..., Callable[[], int]], arguments: tuple) -> None:
    _quiet()
    try:
        step = prepare(*arguments)
        pipe.send(None)
        while True:
            pipe.send(repeat(step, pipe.recv()))
    except UserError as error:
        pipe.send(error)
    except EOFError:
        pass  # The benchmark has ended.


def _loopback_bytes() -> int:
    """Bytes that the loopback network has carried."""
    try:
        with open("/proc/net/dev") as file:
            line = next(line for line in file if line.strip().startswith("lo:"))
    except (OSError, StopIteration):
        return 0
    return int(line.split(":")[1].split()[8])


def _quiet() -> None:
    quiet.native_stderr(os.devnull)

"""Measures work in separate processes, so that no measurement inherits another's threads, caches or memory."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from impala_tf.errors import UserError
from impala_tf.processes.child import FORK_SERVER, Child, ChildFailed

_DEVNULL = pathlib.Path(os.devnull)
_DEVICE_SECONDS = 300.0


class Measurement(NamedTuple):
    """The cost of some work.

    Attributes:
      frames: environment frames processed.
      seconds: wall time.
      cpu_seconds: CPU time of all threads of the process.
      bytes: bytes that crossed the loopback interface in that time, from any process; 0 if the system does not count
        them.
    """

    frames: int
    seconds: float
    cpu_seconds: float
    bytes: int = 0

    @property
    def frames_per_second(self) -> float:
        """Environment frames per second of wall time."""
        return self.frames / self.seconds

    @property
    def core_seconds_per_frame(self) -> float:
        """CPU seconds per environment frame."""
        return self.cpu_seconds / self.frames


def total(measurements: Sequence[Measurement]) -> Measurement:
    """Adds up successive measurements of the same work."""
    return Measurement(*(sum(column) for column in zip(*measurements)))


def repeat(step: Callable[[], int], seconds: float) -> Measurement:
    """Calls `step`, which returns the number of frames it processed, for `seconds`, after one call to warm up."""
    step()
    start, cpu, carried, frames = time.perf_counter(), time.process_time(), _loopback_bytes(), 0
    while time.perf_counter() - start < seconds:
        frames += step()
    return Measurement(frames, time.perf_counter() - start, time.process_time() - cpu, _loopback_bytes() - carried)


class Bench:
    """Work in its own process, which is idle except while it is measured. Use it in a `with` statement."""

    def __init__(self, prepare: Callable[..., Callable[[], int]], *arguments: Any):
        """Starts the process, which calls `prepare(*arguments)` to get the `step` for `repeat`."""
        self._name = prepare.__name__
        self._pipe, theirs = FORK_SERVER.Pipe()
        try:
            self._child = _start(self._name, _serve, theirs, prepare, arguments)
        finally:
            theirs.close()

    def wait_until_ready(self, timeout: float) -> None:
        """Waits until the process has prepared its work.

        Raises:
          UserError: `prepare` raised it, or the process died or took more than `timeout` seconds.
        """
        self._answer(timeout)

    def begin(self, seconds: float) -> None:
        """Starts a measurement of `seconds`."""
        self._pipe.send(seconds)

    def end(self, timeout: float) -> Measurement:
        """Waits for the measurement that `begin` started; raises the errors of `wait_until_ready`."""
        return self._answer(timeout)

    def _answer(self, timeout: float) -> Any:
        if not self._pipe.poll(timeout):
            raise UserError(f"Measuring {self._name} failed: there was no answer within {timeout:g} s.")
        try:
            return self._pipe.recv()
        except EOFError:
            return _result(self._child, 1.0)  # Raises the error that ended the process.

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()


def together(benches: Sequence[Bench], seconds: float, timeout: float) -> list[Measurement]:
    """Measures several benches at the same time."""
    for bench in benches:
        bench.begin(seconds)
    return [bench.end(timeout) for bench in benches]


def once(work: Callable[..., Any], *arguments: Any, timeout: float) -> Any:
    """Runs `work(*arguments)` in a new process and returns its result.

    Raises:
      UserError: `work` raised it, or the process died or took more than `timeout` seconds.
    """
    child = _start(work.__name__, work, *arguments)
    try:
        return _result(child, timeout)
    finally:
        child.kill()


def learner_device() -> str:
    """Returns the name of the GPU that a learner would use on this machine, or "CPU"."""
    return once(_device, timeout=_DEVICE_SECONDS)


def _device() -> str:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else "CPU"


def _start(name: str, work: Callable[..., Any], *arguments: Any) -> Child:
    return Child(name, work, *arguments, context=FORK_SERVER, log=_DEVNULL)


def _result(child: Child, timeout: float) -> Any:
    try:
        return child.answer(timeout)
    except ChildFailed as error:
        raise UserError(f"Measuring {child.name} failed: {error}.") from None


def _serve(pipe: Any, prepare: Callable[..., Callable[[], int]], arguments: tuple) -> None:
    step = prepare(*arguments)
    pipe.send(None)
    try:
        while True:
            pipe.send(repeat(step, pipe.recv()))
    except EOFError:
        pass  # The parent has closed the pipe: the benchmark is over.


def _loopback_bytes() -> int:
    """Returns the number of bytes that the loopback interface has received."""
    try:
        with open("/proc/net/dev") as file:
            line = next(line for line in file if line.strip().startswith("lo:"))
    except (OSError, StopIteration):
        return 0
    return int(line.split(":")[1].split()[8])

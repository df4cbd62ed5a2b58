"""Measurements in processes of their own, so that none inherits another's threads, caches or memory."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from impala_tf.errors import UserError
from impala_tf.processes.child import FORK_SERVER, Child, ChildFailed

_DEVNULL = pathlib.Path(os.devnull)


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
        self._pipe, theirs = FORK_SERVER.Pipe()
        try:
            self._child = _start(self._name, _serve, theirs, prepare, arguments)
        finally:
            theirs.close()

    def wait_until_ready(self, timeout: float) -> None:
        """Waits until the step has been prepared.

        Raises:
          UserError: as `prepare`; or the process died or took more than `timeout` seconds.
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
            return self._pipe.recv()
        except EOFError:
            return _result(self._child, 1.0)  # Raises what ended the process.

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()


def together(benches: Sequence[Bench], seconds: float, timeout: float) -> list[Measurement]:
    """Measures several at the same time."""
    for bench in benches:
        bench.begin(seconds)
    return [bench.end(timeout) for bench in benches]


def once(work: Callable[..., Any], *arguments: Any, timeout: float) -> Any:
    """The result of `work(*arguments)`, in a new process.

    Raises:
      UserError: as `work`; or the process died or took more than `timeout` seconds.
    """
    child = _start(work.__name__, work, *arguments)
    try:
        return _result(child, timeout)
    finally:
        child.kill()


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
        pass  # The benchmark has ended.


def _loopback_bytes() -> int:
    """Bytes that the loopback network has carried."""
    try:
        with open("/proc/net/dev") as file:
            line = next(line for line in file if line.strip().startswith("lo:"))
    except (OSError, StopIteration):
        return 0
    return int(line.split(":")[1].split()[8])

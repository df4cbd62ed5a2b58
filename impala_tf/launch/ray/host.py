"""A host: runs one process of the program on the machine where Ray has placed it. Needs no Ray itself.

Driver and host speak by `Host.exchange` alone, about once a second.

A learner writes the run's folder, so a lost one should have ended before its successor starts, also where nobody can
reach it. It therefore has a lease. Without word from the driver, its host asks it to save and end after half of
`LEASE_SECONDS`, and kills it after all of them. The lease counts from the last report that the driver says it has
received. When its words arrive does not count: they may have been on the way for long. So the driver, too, knows when
the lease is over, whatever has happened to the network.

The lease needs a host that runs. If the host dies, its learner is asked to save and end at once, but nobody kills it.
If the whole machine stands still, the learner may wake up later. The claim in the folder covers both: a learner whose
successor has claimed the folder writes nothing more there (`LogDir.check_there`).
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import pathlib
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from impala_tf.errors import LearnerLost, UserError
from impala_tf.machine import cores
from impala_tf.processes.child import Child
from impala_tf.processes.parent import ChildFailed
from impala_tf.transport import ports

LEASE_SECONDS = 20.0
_LOOK_SECONDS = 0.2
_LINES = 1000  # Kept for the driver; older ones are dropped.
_LATE = 5  # Reports whose times are kept; the driver hears of each before it asks for the next.


class Start(NamedTuple):
    """Asks a host to run a process, in place of the one that it runs.

    Attributes:
      number: of this order; a host's orders are numbered upwards from 1.
      name: of the process, as in `Node`.
      work: what the process does, as in `Node`.
      starts: number of times that it has been started before.
      log: file for its log, on the host's machine.
      leased: whether it is a learner, which has a lease and is left to save; the lines of the others are sent from
        warnings on.
      patience: seconds without a sign of life after which it hangs (`Child.hangs`), and is killed.
    """

    number: int
    name: str
    work: Callable[[int], Any]
    starts: int
    log: pathlib.Path
    leased: bool
    patience: float


class Stop(NamedTuple):
    """Asks a host to end its process: by SIGTERM, and `seconds` later by SIGKILL.

    Attributes:
      number: of this order.
      seconds: as above.
    """

    number: int
    seconds: float


class Received(NamedTuple):
    """The last report that the driver has received.

    Attributes:
      life: of the host that sent it.
      serial: its number.
    """

    life: str
    serial: int


class Report(NamedTuple):
    """A host's answer.

    Attributes:
      life: differs from that of every other host; a host that replaces a lost one knows nothing of its orders.
      serial: number of this report.
      order: number of the last order that it has followed; 0: none.
      machine: address of its machine.
      node: Ray's name for that; several may have one address.
      cores: of its machine.
      free_ports: two, if it runs no process.
      running: whether it runs a process.
      ready: whether the process of the last order has sent `Ready`.
      status: exit status of the process of the last order, as in `Child`; None if it runs or there was none.
      asked: whether that process has ended well because a signal asked it to.
      error: how that process has ended, in a few words; "" if it runs or has ended well. Where `status` is positive,
        it is what its work has raised.
      user_error: whether that was a `UserError`, other than `LearnerLost`.
      learner_lost: whether that was a `LearnerLost`.
      frames: of the newest checkpoint that its processes have written; 0: none.
      lines: log lines of its processes since the last report: (level, text).
    """

    life: str
    serial: int
    order: int
    machine: str
    node: str
    cores: int
    free_ports: tuple[int, ...]
    running: bool
    ready: bool
    status: int | None
    asked: bool
    error: str
    user_error: bool
    learner_lost: bool
    frames: int
    lines: tuple[tuple[int, str], ...]


class Host:
    """Runs one process at a time, watched by a thread."""

    def __init__(self, machine: str, node: str = "", lease: float = LEASE_SECONDS):
        """Starts no process.

        Args:
          machine: address of this machine.
          node: Ray's name for it.
          lease: seconds.
        """
        _restore_environment()
        self._machine, self._node, self._lease = machine, node, lease
        self._life = uuid.uuid4().hex
        self._child: Child | None = None
        self._order: Start | Stop | None = None
        self._leased, self._patience = False, float("inf")
        self._kill_at = float("inf")  # After a `Stop`.
        self._log: pathlib.Path | None = None
        self._why_killed, self._frames = "", 0
        self._lines: collections.deque[tuple[int, str]] = collections.deque(maxlen=_LINES)
        self._serial, self._renewed = 0, time.monotonic()
        self._reported: collections.OrderedDict[int, float] = collections.OrderedDict()  # Times of the last reports.
        self._warned = False
        self._lock = threading.RLock()
        threading.Thread(target=self._watch, name="host-watch", daemon=True).start()

    def exchange(self, received: Received | None, order: Start | Stop | None) -> Report:
        """Follows an order and reports.

        Args:
          received: the last report that the driver has received from this life or another; None: none yet.
          order: what to do. Ignored if it has been followed, or if it may have been on the way for long.
        """
        with self._lock:
            if received is not None and received.life == self._life and received.serial in self._reported:
                self._renewed = max(self._renewed, self._reported[received.serial])
                self._warned = False
                in_time = time.monotonic() - self._reported[received.serial] < self._lease / 2
                if order is not None and in_time and order.number > self._last:
                    self._follow(order)
            self._look()
            return self._report()

    @property
    def _last(self) -> int:
        return self._order.number if self._order else 0

    def _follow(self, order: Start | Stop) -> None:
        self._order = order
        if isinstance(order, Stop):
            self._kill_at = time.monotonic() + order.seconds
            if self._child and self._child.status is None:
                self._child.terminate()
            return
        if self._child:
            self._child.kill()
        self._child, self._why_killed, self._kill_at, self._log = None, "", float("inf"), order.log
        self._leased, self._patience = order.leased, order.patience
        try:
            order.log.parent.mkdir(parents=True, exist_ok=True)
            with _without_main_module():
                self._child = Child(
                    order.name,
                    order.work,
                    order.starts,
                    log=order.log,
                    forward=logging.INFO if order.leased else logging.WARNING,
                    orderly=order.leased,
                    on_line=lambda level, text: self._lines.append((level, text)),
                )
        except (UserError, OSError) as error:  # Too many processes, no memory, ...
            self._why_killed = f"could not be started ({error})"

    def _watch(self) -> None:
        while True:
            time.sleep(_LOOK_SECONDS)
            with self._lock:
                self._look()

    def _look(self) -> None:
        """Handles what the process has sent; ends it if it hangs or its time is over."""
        child = self._child
        if child is None:
            return
        child.poll()
        self._frames = max(self._frames, child.saved)
        if child.status is not None:
            return
        now = time.monotonic()
        if self._leased and now - self._renewed > self._lease:
            self._kill(f"was killed, as there was no word from the driver for {self._lease:g} s")
        elif child.hangs(self._patience):
            self._kill(f"gave no sign of life for {child.silence:.0f} s and was killed")
        elif now > self._kill_at:
            self._kill("did not end in time and was killed")
        elif self._leased and now - self._renewed > self._lease / 2 and not self._warned:
            self._warned = True
            child.terminate()

    def _kill(self, why: str) -> None:
        assert self._child is not None
        self._child.kill()
        self._why_killed = f"{why} (see {self._log})"

    def _report(self) -> Report:
        child, status, asked, error = self._child, None, False, self._why_killed
        user_error = learner_lost = False
        if child is not None:
            status = child.status
        if child is not None and status is not None and not error:
            try:
                asked = bool(child.answer(0.0))
            except (UserError, ChildFailed) as failure:
                error = child.describe_error()
                learner_lost = isinstance(failure, LearnerLost)
                user_error = isinstance(failure, UserError) and not learner_lost
                error = error.removeprefix("its process ")
        running = child is not None and status is None
        lines = tuple(self._lines)
        self._lines.clear()
        self._serial += 1
        self._reported[self._serial] = time.monotonic()
        if len(self._reported) > _LATE:
            self._reported.popitem(last=False)
        return Report(
            life=self._life,
            serial=self._serial,
            order=self._last,
            machine=self._machine,
            node=self._node,
            cores=cores(),
            free_ports=() if running else (ports.free_port(), ports.free_port()),
            running=running,
            ready=child is not None and child.ready,
            status=-9 if child is None and error else status,
            asked=asked,
            error=error,
            user_error=user_error,
            learner_lost=learner_lost,
            frames=self._frames,
            lines=lines,
        )


def _restore_environment() -> None:
    """Undoes what Ray has set for code in its own worker, and the process must not inherit.

    CUDA_VISIBLE_DEVICES stays: it names the GPUs that the process may use.
    """
    with contextlib.suppress(OSError):
        at_start = pathlib.Path("/proc/self/environ").read_bytes().split(b"\0")
        if not any(entry.startswith(b"OMP_NUM_THREADS=") for entry in at_start):
            os.environ.pop("OMP_NUM_THREADS", None)


@contextlib.contextmanager
def _without_main_module() -> Iterator[None]:
    """Keeps a child from importing this process's main module, which is Ray's worker."""
    main = sys.modules["__main__"]
    file = main.__dict__.pop("__file__", None)
    try:
        yield
    finally:
        if file is not None:
            main.__file__ = file

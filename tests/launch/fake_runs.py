"""Runs of the programs in `fake_programs` by the launcher of processes."""

from __future__ import annotations

import functools
import os
import pathlib
import signal
import threading

import fake_programs as fake

from impala_tf.architectures.program import Node
from impala_tf.launch import local
from impala_tf.records.logdir import LogDir


def pids(path: pathlib.Path) -> list[str]:
    return [word for word in path.read_text().split() if word.isdecimal()]


def learner_node(work, *arguments) -> Node:
    return Node("learner", functools.partial(work, *arguments))


def actor_node(work, *arguments, number=0, restarts=True) -> Node:
    return Node(f"actor {number}", functools.partial(work, *arguments), restarts)


def actor_nodes(folder, count=1, **options) -> tuple[Node, ...]:
    return tuple(actor_node(fake.act, folder, f"actor {i}", number=i, **options) for i in range(count))


def stop_when(path: pathlib.Path, also: pathlib.Path | None = None) -> threading.Event:
    """An event that is set when the files are there."""
    stop = threading.Event()

    def wait():
        for each in (path, also or path):
            fake.wait_for(each)
        stop.set()

    threading.Thread(target=wait, daemon=True).start()
    return stop


def run(program, logs, stop=None, **options):
    local.run(program, LogDir(str(logs.parent)), stop or threading.Event(), **options)


def stop_process(path: pathlib.Path) -> None:
    """Sends SIGSTOP to the process that has written its number to `path`, once it is there."""

    def hang():
        fake.wait_for(path)
        os.kill(int(pids(path)[0]), signal.SIGSTOP)

    threading.Thread(target=hang, daemon=True).start()

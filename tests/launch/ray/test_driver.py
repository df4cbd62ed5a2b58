"""The driver on a real cluster of nodes on this machine, with programs that do nothing."""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import signal
import threading
import time

import fake_programs as fake
import pytest
from fake_runs import pids

from impala_tf.architectures.program import Node, Program
from impala_tf.errors import UserError
from impala_tf.launch.ray import cluster as cluster_lib
from impala_tf.launch.ray import driver, learners
from impala_tf.records.logdir import LogDir

pytestmark = pytest.mark.slow(41)


@pytest.fixture(scope="module", autouse=True)
def joined(cluster):
    """This process, in the cluster."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with cluster_lib.joined(cluster.address):
        for number, handler in handlers.items():
            signal.signal(number, handler)
        yield


class Run:
    """A run of a program in a thread."""

    def __init__(self, folder: pathlib.Path, learn, act, extra=(), actors=1, cpus=1):
        self.folder, self.stop, self.error = folder, threading.Event(), None
        self.addresses: list = []

        def describe(addresses, cores):
            self.addresses.append(addresses[0].server)
            names = [f"actor {n}" for n in range(actors)]
            return Program(
                (Node("learner", functools.partial(learn, folder, *extra)),),
                tuple(Node(name, functools.partial(act, folder, name)) for name in names),
            )

        place_learner = functools.partial(cluster_lib.place, 1, 0, saves=True)
        place_actor = functools.partial(cluster_lib.place, cpus)
        arguments = (describe, [place_learner], [place_actor] * actors, LogDir(str(folder)), self.stop)

        def run():
            try:
                driver.run(*arguments)
            except UserError as error:
                self.error = str(error)

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def pid(self, name: str, seconds: float = 60.0) -> int:
        """Waits for a process to note its id."""
        deadline = time.monotonic() + seconds
        while not (self.folder / name).exists():
            assert time.monotonic() < deadline and self.thread.is_alive(), (name, self.error)
            time.sleep(0.05)
        return int(pids(self.folder / name)[0])

    def finish(self, seconds: float = 60.0):
        self.thread.join(seconds)
        assert not self.thread.is_alive()


@pytest.fixture
def start(folder, logs, monkeypatch):
    monkeypatch.setattr(learners, "_SILENT_SECONDS", 10.0)
    runs = []

    def make(*arguments, **options):
        runs.append(Run(folder, *arguments, **options))
        return runs[-1]

    yield make
    for run in runs:
        run.stop.set()
        run.finish()
    deadline = time.monotonic() + 20
    while any(actor["state"] == "ALIVE" for actor in _actors()):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _actors():
    from ray.util import state

    with contextlib.suppress(Exception):
        return [{"state": actor.state} for actor in state.list_actors()]
    return []


def test_what_fails_is_started_again_with_new_addresses(start, folder, caplog):
    """An actor's process, its host, and the learner, one after the other; in the end the learner saves."""
    with caplog.at_level("INFO", "impala_tf"):
        run = start(fake.learn_and_save, fake.act_alone, actors=2)
        os.kill(run.pid("actor 0, start 0"), signal.SIGKILL)
        run.pid("actor 0, start 1")
        assert len(run.addresses) == 1
        learner = run.pid("learner")
        (folder / "learner").unlink()
        os.kill(learner, signal.SIGKILL)
        run.pid("learner")
        assert len(set(run.addresses)) == 2
        run.stop.set()
        run.finish()
    assert run.error is None and (folder / "saved").exists()
    messages = caplog.messages
    assert any(m.startswith("actor 0 on ") and "SIGKILL" in m and m.endswith("restart 1 in 0.5 s") for m in messages)
    assert any(m.startswith("the learner was ended by SIGKILL") and "starts again" in m for m in messages), messages


def test_a_learner_whose_host_is_killed_has_ended_before_it_is_started_again(start, folder, monkeypatch):
    """The host's process is killed; the learner saves; its successor waits until the lease must be over."""
    monkeypatch.setattr(learners, "_LEASE_OVER_SECONDS", 6.0)
    run = start(fake.learn_and_save, fake.act_alone)
    learner = run.pid("learner")
    (folder / "learner").unlink()
    host = int(pathlib.Path(f"/proc/{learner}/stat").read_text().rpartition(")")[2].split()[1])
    killed = time.monotonic()
    os.kill(host, signal.SIGKILL)
    run.pid("saved")
    assert run.pid("learner") != learner
    assert time.monotonic() - killed > 4.5
    run.stop.set()
    run.finish()


def test_errors_that_would_come_again_end_the_run(start, folder):
    run = start(fake.learn_and_end, fake.act_alone, extra=("user error",))
    run.finish()
    assert run.error == f"The learner failed: the disk is full (see {folder / 'logs' / 'learner.log'})"

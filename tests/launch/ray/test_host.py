"""A host and its process, without Ray: orders, reports, the lease."""

from __future__ import annotations

import functools
import logging
import os
import pathlib
import signal
import time

import fake_programs as fake
import pytest
from fake_runs import pids

from impala_tf.errors import LearnerLost
from impala_tf.launch.ray.host import Host, Received, Start, Stop
from impala_tf.processes import parent


class Driver:
    """Speaks with a host as the driver does."""

    def __init__(self, host: Host):
        self.host, self.lines = host, []
        self.report = host.exchange(None, None)

    def ask(self, order=None):
        """Receives a report, then asks again."""
        self.report = self.host.exchange(Received(self.report.life, self.report.serial), order)
        self.lines += self.report.lines
        return self.report

    def until(self, condition, seconds=20.0):
        end = time.monotonic() + seconds
        while not condition(self.ask()):
            assert time.monotonic() < end, self.report
            time.sleep(0.02)
        return self.report


@pytest.fixture
def driver():
    made = Driver(Host("10.0.0.7"))
    yield made
    made.ask(Stop(10**6, 0.0))
    made.until(lambda report: not report.running)


def start(number, work, *arguments, logs, leased=False, patience=600.0, name="learner"):
    return Start(number, name, functools.partial(work, *arguments), 0, logs / f"{name}.log", leased, patience)


def test_a_process_runs_and_its_end_is_reported(driver, folder, logs):
    assert not driver.report.running and driver.report.order == 0 and driver.report.machine == "10.0.0.7"
    assert len(set(driver.report.free_ports)) == 2
    order = start(1, fake.learn_until, folder, "enough", logs=logs / "new", leased=True)
    report = driver.ask(order)
    assert report.running and report.order == 1 and report.free_ports == ()
    fake.wait_for(folder / "learner")
    assert driver.ask(order).order == 1  # It is not started again.
    (folder / "enough").touch()
    report = driver.until(lambda report: not report.running)
    assert (report.status, report.error, report.asked) == (0, "", False)
    assert [text for _, text in driver.lines] == ["learning", "learned"]
    assert "INFO learned" in (logs / "new" / "learner.log").read_text()


def save(frames: int, _starts: int) -> None:
    parent.send(parent.Ready())
    parent.send(parent.Saved(frames))
    logging.getLogger("impala_tf").info("quiet")
    raise ValueError("no\nshape")


def find_no_learner(_starts: int) -> None:
    raise LearnerLost("No learner answered")


def test_an_actor_that_finds_no_learner_is_told_apart(driver, logs):
    driver.ask(start(1, find_no_learner, logs=logs))
    report = driver.until(lambda report: not report.running)
    assert report.learner_lost and not report.user_error and report.error.startswith("No learner answered (see")


@pytest.mark.parametrize(("error", "user_error"), [("no such level", True), ("ValueError: no shape", False)])
def test_errors_are_told_apart(driver, folder, logs, error, user_error):
    arguments = (fake.act_once, folder, "actor 0") if user_error else (save, 300)
    driver.ask(start(1, *arguments, logs=logs))
    report = driver.until(lambda report: not report.running)
    assert report.error == f"{error} (see {logs / 'learner.log'})"
    assert report.user_error is user_error and not report.learner_lost and report.ready
    assert report.status == (2 if user_error else 1)
    if not user_error:
        assert report.frames == 300 and driver.lines == []
        report = driver.ask(start(2, fake.sleep, folder, logs=logs))
        assert report.running and report.frames == 300 and not report.ready


def test_a_process_that_is_killed_or_hangs_is_reported(driver, folder, logs):
    driver.ask(start(1, fake.sleep, folder, logs=logs))
    fake.wait_for(folder / "learner")
    os.kill(int(pids(folder / "learner")[0]), signal.SIGKILL)
    report = driver.until(lambda report: not report.running)
    assert report.status == -9 and report.error.startswith("was ended by SIGKILL (see ")
    driver.ask(start(2, fake.act_alone, folder, "hangs", logs=logs, patience=0.5))
    report = driver.until(lambda report: not report.running)
    assert report.status == -9 and "gave no sign of life for" in report.error
    assert not fake.is_running(int(pids(folder / "hangs, start 0")[0]))


def test_a_process_is_replaced_with_its_programs(driver, folder, logs):
    driver.ask(start(1, fake.act, folder, "actor 0", logs=logs))
    fake.wait_for(folder / "actor 0, start 0")
    report = driver.ask(start(2, fake.sleep, folder, logs=logs))
    assert report.running and report.order == 2
    end = time.monotonic() + 5.0  # Its programs are killed with it, but nobody waits for them.
    while any(fake.is_running(int(pid)) for pid in pids(folder / "actor 0, start 0")):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_learner_is_asked_to_end_and_then_killed(driver, folder, logs):
    driver.ask(start(1, fake.learn_and_save, folder, logs=logs, leased=True))
    fake.wait_for(folder / "learner")
    driver.ask(Stop(2, 20.0))
    report = driver.until(lambda report: not report.running)
    assert report.asked and report.status == 0 and (folder / "saved").exists()
    (folder / "learner").unlink()
    driver.ask(start(3, fake.learn_and_ignore, folder, logs=logs, leased=True))
    fake.wait_for(folder / "learner")
    driver.ask(Stop(4, 0.5))
    report = driver.until(lambda report: not report.running)
    assert report.status == -9 and "did not end in time" in report.error


@pytest.mark.slow(13)
def test_the_lease_ends_a_learner_whose_driver_is_silent(folder, logs):
    """It is first asked to save; an actor has no lease."""
    driver, other = Driver(Host("a", lease=6.0)), Driver(Host("b", lease=6.0))
    driver.ask(start(1, fake.learn_and_save, folder, logs=logs, leased=True))
    other.ask(start(1, fake.act_alone, folder, "actor 0", logs=logs, name="actor 0"))
    for _ in range(16):  # Its words renew the lease.
        time.sleep(0.25)
        assert driver.ask().running
    fake.wait_for(folder / "saved")
    assert driver.until(lambda report: not report.running).asked
    (folder / "learner").unlink()
    driver.ask(start(2, fake.learn_and_ignore, folder, logs=logs, leased=True))
    last = time.monotonic()
    fake.wait_for(folder / "learner")
    learner = int(pids(folder / "learner")[0])
    while fake.is_running(learner):
        time.sleep(0.02)
    assert 5.5 < time.monotonic() - last < 12.0
    assert "no word from the driver for 6 s" in driver.ask().error
    assert other.ask().running
    other.ask(Stop(2, 0.0))
    other.until(lambda report: not report.running)


def test_words_that_were_on_the_way_for_long_renew_nothing_and_start_nothing(folder, logs):
    driver = Driver(Host("a", lease=4.0))
    driver.ask(start(1, fake.learn_and_ignore, folder, logs=logs, leased=True))
    sent, at = Received(driver.report.life, driver.report.serial), time.monotonic()  # What follows is delayed.
    fake.wait_for(folder / "learner")
    learner = int(pids(folder / "learner")[0])
    for late in (1.0, 1.9, 2.8, 3.7):  # It arrives again and again, and says nothing new.
        time.sleep(max(0.0, at + late - time.monotonic()))
        driver.host.exchange(sent, None)
    while fake.is_running(learner):
        assert time.monotonic() - at < 6.5
        time.sleep(0.05)
    late = driver.host.exchange(sent, start(2, fake.sleep, folder, logs=logs, leased=True))
    assert late.order == 1 and not late.running
    stranger = driver.host.exchange(Received("another life", 1), start(2, fake.sleep, folder, logs=logs))
    assert stranger.order == 1 and not stranger.running
    assert driver.host.exchange(None, start(2, fake.sleep, folder, logs=logs)).order == 1


def tell_environment(path, _starts: int) -> None:
    import sys

    main = getattr(sys.modules["__main__"], "__file__", None)
    path.write_text(f"{os.environ.get('OMP_NUM_THREADS')} {os.environ.get('CUDA_VISIBLE_DEVICES')} {main}")


def test_what_ray_sets_for_itself_is_not_inherited(folder, logs, monkeypatch):
    for name, value in (("OMP_NUM_THREADS", "1"), ("CUDA_VISIBLE_DEVICES", "3")):
        assert name not in pathlib.Path("/proc/self/environ").read_text()
        monkeypatch.setenv(name, value)
    driver = Driver(Host("a"))
    driver.ask(start(1, tell_environment, logs / "environment", logs=logs))
    driver.until(lambda report: not report.running)
    assert driver.report.error == ""
    assert (logs / "environment").read_text() == "None 3 None"

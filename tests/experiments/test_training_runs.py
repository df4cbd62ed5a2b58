"""Several runs at once: which are started, how they end, what is said meanwhile.

Short programs take the place of the training, which `run/test_sweep_run.py` and `run/test_experiment.py` start.
"""

from __future__ import annotations

import math
import re
import sys
import threading
import time

import pytest

from impala_tf import config as config_lib
from impala_tf.errors import UserError
from impala_tf.experiments import runs, training_runs
from impala_tf.experiments.training_runs import FAILED, FINISHED, INTERRUPTED, TRAINING, WAITING, TrainingRun
from impala_tf.processes.command import Command

FRAMES = 1000
PROGRAM = """
import os, pathlib, signal, sys, time
folder, kind = pathlib.Path(sys.argv[1]), sys.argv[2]

def log(frames):
    (folder / "progress.csv").write_text(f"frames,seconds,mean_return_100\\n{frames},5,0.5\\n")

def save(frames):
    (folder / "checkpoints" / f"{frames:012}").mkdir(parents=True)

def end(*_):
    save({"endless": 400, "all but ended": 1000}[kind])
    os._exit(143)

if kind == "finishes":
    log(1000), save(1000)
    print("INFO: ERROR: not this")
elif kind == "fails":
    print("ERROR: no such game")
    sys.exit(2)
elif kind == "is killed":
    print("step 12", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
else:
    signal.signal(signal.SIGTERM, end)
    log(400)
    time.sleep(60)
    print("ERROR: nobody has ended it")
"""


def made(folder, name, **settings):
    values = {"env": "catch", "total_frames": FRAMES, "logdir": str(folder / name), **settings}
    return TrainingRun(name, config_lib.from_values(values))


def log(run, text):
    run.logdir.path.mkdir(parents=True, exist_ok=True)
    run.logdir.progress.write_text(f"frames,seconds,mean_return_100\n{text}")


@pytest.fixture
def started(monkeypatch):
    """{name of a run: what it does}; the commands that were started are under "commands".

    "at once" is the largest number of runs that had been started and were not yet in "ended", to which a test adds.
    """
    kinds: dict = {"commands": {}, "ended": [], "at once": 0}

    def start(config):
        folder = config.run.logdir
        name = folder.rpartition("/")[2]
        TrainingRun(name, config).logdir.logs.mkdir(parents=True, exist_ok=True)
        line = [sys.executable, "-I", "-S", "-c", PROGRAM, folder, kinds[name]]
        kinds["commands"][name] = Command(line, TrainingRun(name, config).logdir.logs / runs.OUTPUT)
        kinds["at once"] = max(kinds["at once"], len(kinds["commands"]) - len(kinds["ended"]))
        return kinds["commands"][name]

    monkeypatch.setattr(runs, "start", start)
    return kinds


def test_a_run_that_fails_is_named_and_the_others_go_on_and_the_next_start_tries_it_again(started, tmp_path, caplog):
    caplog.set_level("INFO")
    started |= {"a": "finishes", "b": "fails", "c": "is killed", "d": "finishes", "e": "finishes"}
    whole = [made(tmp_path, name) for name in "abcde"]
    ended = started["ended"]
    training_runs.train(whole, 2, threading.Event(), 60.0, on_end=lambda run: ended.append((run.name, run.state)))
    assert [run.state for run in whole] == [FINISHED, FAILED, FAILED, FINISHED, FINISHED]
    assert sorted(ended) == [(run.name, run.state) for run in whole]
    assert started["at once"] == 2
    assert [run.error for run in whole] == ["", "no such game", "it ended with SIGKILL after: step 12", "", ""]
    assert "b failed: no such game" in caplog.text and "a finished: return 0.50 after 1,000 frames" in caplog.text

    started |= {"b": "finishes", "c": "fails", "commands": {}}
    again = [made(tmp_path, name) for name in "abcde"]
    for run in again:
        run.look("--runs=runs holds runs", "")
    assert [run.state for run in again] == [FINISHED, WAITING, WAITING, FINISHED, FINISHED]
    training_runs.train(again, 5, threading.Event(), 60.0)
    assert set(started["commands"]) == {"b", "c"}
    assert [run.state for run in again] == [FINISHED, FINISHED, FAILED, FINISHED, FINISHED]


def test_runs_with_all_their_frames_have_finished_however_they_ended(started, tmp_path, caplog):
    caplog.set_level("INFO")
    started |= {"a": "endless", "b": "all but ended", "c": "finishes"}
    whole, stop = [made(tmp_path, name) for name in "abc"], threading.Event()

    def stop_when_they_train():
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and "a: 40%, return 0.50  b: 40%, return 0.50" not in caplog.text:
            time.sleep(0.02)
        seen.extend(run.state for run in whole)
        stop.set()

    seen: list = []
    threading.Thread(target=stop_when_they_train, daemon=True).start()
    training_runs.train(whole, 2, stop, 0.0)
    assert seen == [TRAINING, TRAINING, WAITING]
    assert [run.state for run in whole] == [INTERRUPTED, FINISHED, WAITING]
    assert [command.status for command in started["commands"].values()] == [143, 143]  # Asked to end, not killed.
    assert re.search(r"  0 of 3 ended  about \d+ min left  a: 40%, return 0.50  b: 40%, return 0.50\n", caplog.text)
    assert caplog.messages[-1] == "ending; runs that save: 2 (up to 60 s)"


def test_what_is_said_meanwhile(tmp_path, caplog):
    caplog.set_level("INFO")
    whole = [made(tmp_path, name) for name in ("ended", "half/way", "early", "new", "waits")]
    whole[0].state = FINISHED
    log(whole[1], "10,1,0.0\n400,5,0.75\n")
    log(whole[2], "10,1,nan\n")
    training_runs._say(whole, whole[1:4], training_runs._TimeLeft(whole))
    assert caplog.messages == [
        "  1 of 5 ended  half/way: 40%, return 0.75  early: 1%, no episode yet  new: starting",
    ]


@pytest.mark.parametrize(
    ("frames", "minutes", "text"),
    [
        (200, 10, ""),  # As before the start.
        (400, 10, "about 1 h 20 min left"),  # A tenth of the work in 10 minutes; 8 tenths are left.
        (1000, 10, "about 13 min left"),  # 12.5.
        (400, 30, "about 4 h 0 min left"),
        (201, 1, "about 29 h 59 min left"),
    ],
)
def test_the_time_left_is_that_of_the_work_since_the_start(tmp_path, monkeypatch, frames, minutes, text):
    """Two runs of 1,000 frames, of which one had 200 at the start."""
    whole, now = [made(tmp_path, name) for name in "ab"], [0.0]
    monkeypatch.setattr(training_runs.time, "monotonic", lambda: now[0])
    log(whole[0], "200,5,0.5\n")
    left, now[0] = training_runs._TimeLeft(whole), minutes * 60
    log(whole[0], f"{frames},5,0.5\n")
    assert left.text() == text


def test_what_has_failed_takes_no_more_time(tmp_path, monkeypatch):
    whole, now = [made(tmp_path, name) for name in "ab"], [0.0]
    monkeypatch.setattr(training_runs.time, "monotonic", lambda: now[0])
    left, now[0] = training_runs._TimeLeft(whole), 300
    whole[0].state = FAILED
    assert left.text() == "about 5 min left"


def test_a_run_knows_how_far_it_is(tmp_path):
    run = made(tmp_path, "a")
    assert run.share() == 0 and math.isnan(run.final_return()) and not run.trained
    log(run, "400,5,0.75\n")
    assert run.share() == 0.4 and run.final_return() == 0.75 and not run.trained
    log(run, "1040,5,-1\n")  # A run may go a batch over its frames.
    assert run.share() == 1.0 and run.final_return() == -1.0 and not run.trained  # Not saved yet.
    (run.logdir.checkpoints / f"{1040:012}").mkdir(parents=True)
    assert run.trained


def test_a_run_with_other_settings_is_refused_once_it_has_a_checkpoint(tmp_path):
    run = made(tmp_path, "a", batch_size=8)
    run.logdir.check(run.config)
    with run.logdir.lock():
        run.logdir.prepare(run.config)
    other = made(tmp_path, "a")
    other.look("--runs=r holds runs", "Move it.")  # Nothing is lost.
    (run.logdir.checkpoints / f"{400:012}").mkdir(parents=True)
    with pytest.raises(
        UserError, match=r"--runs=r holds runs with other settings: --batch_size: 8 there, 32 now \(a\)"
    ):
        other.look("--runs=r holds runs", "Move it.")
    run.look("--runs=r holds runs", "Move it.")
    assert run.state == WAITING

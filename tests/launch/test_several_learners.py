"""Several learners on one machine: they learn, start again together when one is lost, and name one without data."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import threading
import time

import pandas as pd
import pytest
import real_runs

from impala_tf.architectures import table
from impala_tf.errors import UserError
from impala_tf.launch import local
from impala_tf.processes.listing import descendants
from impala_tf.records.logdir import LogDir


def _program(logdir: pathlib.Path, **values):
    return table.program(*real_runs.resolve(logdir, **values))


def _kill_when(name: str, there: pathlib.Path, sig: signal.Signals = signal.SIGKILL) -> None:
    """Sends a signal to the process of that name, once there is a checkpoint."""

    def kill():
        while not any(path.name.isdecimal() for path in there.glob("*")):
            time.sleep(0.02)
        (pid,) = [pid for pid, found in descendants().items() if found == name]
        os.kill(pid, sig)

    threading.Thread(target=kill, daemon=True).start()


@pytest.mark.slow(30)
def test_catch_is_learned_although_a_learner_is_killed(tmp_path, caplog):
    values = {**real_runs.LEARNS, "batch_size": 16, "num_learners": 2, "total_frames": 110_000}
    logdir = LogDir(str(tmp_path))
    _kill_when("learner 1", logdir.checkpoints)
    with caplog.at_level("INFO", "impala_tf"):
        local.run(_program(tmp_path, **values, checkpoint_interval=0.5, log_interval=0.5), logdir, threading.Event())
    (lost,) = [message for message in caplog.messages if "start again" in message]
    assert re.match(r"The learner 1 was ended by SIGKILL .* all learners start again from the checkpoint at", lost)
    rows = pd.read_csv(logdir.progress)
    assert rows["frames"].is_monotonic_increasing and logdir.frames >= 110_000
    assert rows["mean_return_100"].max() >= 0.8
    # An update takes 16 unrolls of 20 steps of each learner.
    assert (rows["frames"] % (2 * 16 * 20) == 0).all()
    logs = [(logdir.logs / f"learner_{rank}.log").read_text() for rank in range(2)]
    ends = [re.findall(r"checksum of all variables after step ([\d,]+: [0-9a-f]{8})", log) for log in logs]
    assert ends[0][-1:] == ends[1][-1:] != []
    assert not descendants_of_run()


def test_all_end_when_one_is_asked_to_end(tmp_path):
    logdir = LogDir(str(tmp_path))
    _kill_when("learner 1", logdir.checkpoints, signal.SIGTERM)
    program = _program(tmp_path, num_learners=2, batch_size=3, checkpoint_interval=0.1)
    with pytest.raises(UserError, match="learner 0 failed: Learner 1 was asked to end, and learners only update toge"):
        local.run(program, logdir, threading.Event())
    rows = pd.read_csv(logdir.progress)
    assert rows["frames"].iloc[-1] == logdir.frames > 0  # Saved at the end.
    assert not descendants_of_run()


def descendants_of_run() -> list[str]:
    return [name for name in descendants().values() if re.fullmatch(r"(learner|actor) \d+", name)]


def test_a_learner_without_unrolls_is_named_and_the_others_end_with_it(tmp_path):
    program = _program(tmp_path, num_learners=2, stall_timeout=3.0, batch_size=3)
    alone = type(program)(program.learners, program.actors[:1])  # Actor 1 would send to learner 1.
    with pytest.raises(UserError, match=r"No unrolls arrived at learner 1 for 3 s \(--stall_timeout\)"):
        local.run(alone, LogDir(str(tmp_path)), threading.Event())
    assert (tmp_path / "progress.csv").read_text() == ""  # Learner 0 cannot learn alone.
    assert not descendants_of_run()

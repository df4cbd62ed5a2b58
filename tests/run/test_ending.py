"""How commands end at a signal; tests/run/test_evaluate.py has a whole one."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = """
import os, signal, sys, time
from run import ending
ending._PATIENCE_SECONDS = float(sys.argv[2])
if "ignored" in sys.argv[1]:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
it = ending.Ending("; to resume: again")
it.clean_up = lambda: os.write(1, b"cleaned up\\n")
if "begun" in sys.argv[1]:
    it.begin()
os.write(1, b"ready\\n")
while not ("stops" in sys.argv[1] and it.stopped()):
    time.sleep(60 if "hangs" in sys.argv[1] else 0.01)  # Goes on after a signal.
os.write(1, b"finished\\n")
"""


def ends(how: str, *signals: signal.Signals, patience: float = 60.0) -> tuple[int, list[str]]:
    """Returns status and output of the program after the signals."""
    command = [sys.executable, "-c", PROGRAM, how, str(patience)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for number in signals:
            os.killpg(process.pid, number)
        try:
            out, _ = process.communicate(timeout=60)
        finally:
            process.kill()
        return process.returncode, out.splitlines()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_at_once_before_anything_has_begun(number: signal.Signals):
    said = [f"Ended early by {number.name}; to resume: again", "cleaned up"]
    assert ends("hangs", number) == (128 + number, said)


def test_what_has_begun_is_finished():
    assert ends("begun, stops", signal.SIGTERM) == (0, ["finished"])


def test_what_hangs_is_ended():
    said = ["Ended early by SIGTERM; to resume: again", "cleaned up"]
    assert ends("begun, hangs", signal.SIGTERM, patience=0.1) == (128 + signal.SIGTERM, said)


def test_a_second_signal_ends_at_once():
    status, said = ends("begun, hangs", signal.SIGTERM, signal.SIGINT)
    assert status in (128 + signal.SIGINT, 128 + signal.SIGTERM) and said[1:] == ["cleaned up"]


def test_a_command_started_by_nohup_goes_on():
    said = ["Ended early by SIGTERM; to resume: again", "cleaned up"]
    assert ends("ignored", signal.SIGHUP, signal.SIGTERM) == (128 + signal.SIGTERM, said)

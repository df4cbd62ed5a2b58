"""Folders for the runs of programs that do nothing."""

from __future__ import annotations

import pathlib
import sys
import time

import pytest

sys.path.append(str(pathlib.Path(__file__).parent))  # Children get it from here, too.

import fake_programs as fake
from fake_runs import pids


@pytest.fixture
def folder(tmp_path):
    """Where the processes show what happened; none of them is left running."""
    yield tmp_path
    noted = [int(pid) for path in tmp_path.glob("*") if path.is_file() for pid in pids(path)]
    deadline = time.monotonic() + 10
    while left := [pid for pid in noted if fake.is_running(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


@pytest.fixture
def logs(tmp_path):
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"

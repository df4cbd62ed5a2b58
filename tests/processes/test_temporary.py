"""Temporary folders that do not outlive the process that made them."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import tempfile

import pytest

from impala_tf.processes import temporary
from impala_tf.processes.temporary import Folder

_OTHER = """
from impala_tf.processes.temporary import Folder
made = Folder()
made.inner("inside").joinpath("file").touch()
print(made.path, flush=True)
input()
"""


@pytest.fixture(autouse=True)
def tmp(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_is_removed_with_what_is_in_it(tmp):
    made = Folder()
    assert made.path.parent == tmp and made.path.name.startswith("impala_tf-")
    made.inner("a").joinpath("file").touch()
    assert not list(made.inner("a").iterdir())  # Made anew.
    for _ in range(2):
        made.close()
        assert not list(tmp.iterdir())


def test_what_a_killed_process_has_left_is_removed_by_the_next_and_nothing_else(tmp):
    variables = {**os.environ, "TMPDIR": str(tmp)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", _OTHER], text=True, env=variables, **pipes) as other:  # type: ignore
        left = other.stdout.readline().strip()  # type: ignore[union-attr]
        (tmp / "impala_tf-file").touch()
        (tmp / "impala_tf-link").symlink_to(tmp)
        mine = Folder()
        assert os.path.exists(f"{left}/inside/file")  # Its process lives.
        os.kill(other.pid, signal.SIGKILL)
    another = Folder()
    assert not os.path.exists(left)
    assert len(list(tmp.iterdir())) == 4 and mine.path.exists() and another.path.exists()


def test_the_end_of_the_process_or_of_the_object_removes_it(tmp):
    done = subprocess.run([sys.executable, "-c", _OTHER], input="\n", text=True, env={**os.environ, "TMPDIR": str(tmp)})
    assert done.returncode == 0 and not list(tmp.iterdir())
    made = Folder()
    del made
    assert not list(tmp.iterdir())


def test_a_new_one_sweeps_too(tmp):
    (tmp / "impala_tf-old").mkdir()
    made = Folder()
    assert list(tmp.iterdir()) == [made.path]


def test_a_folder_that_cannot_be_locked_is_an_error_and_does_not_stay(tmp, monkeypatch):
    """Too many open files, or a file system without locks."""

    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="No locks"):
        Folder()
    assert not list(tmp.iterdir())


def test_a_folder_that_is_taken_for_abandoned_before_it_is_locked_is_made_again(tmp, monkeypatch):
    lock, removed = temporary._lock, []

    def too_late(folder):
        if not removed:
            removed.append(folder)
            folder.rmdir()
        return lock(folder)

    monkeypatch.setattr(temporary, "_lock", too_late)
    made = Folder()
    assert removed and made.path != removed[0] and made.path.exists()

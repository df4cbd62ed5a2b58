"""Temporary folders: they are removed in the end, also those of processes that were killed."""

from __future__ import annotations

import fcntl
import tempfile

import pytest

from impala_tf.processes.temporary import Folder


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_is_removed(temporary):
    folder = Folder()
    (folder.path / "socket").touch()
    assert folder.path.parent == temporary
    folder.close()
    assert not list(temporary.iterdir())


def test_what_a_killed_process_has_left_is_removed_by_the_next(temporary):
    left = Folder()
    fcntl.flock(left._lock, fcntl.LOCK_UN)  # As the kernel does at its end.
    others = temporary / "pymp-1"
    others.mkdir()
    alive = Folder()
    assert not left.path.exists() and others.exists()
    another = Folder()
    assert alive.path.exists()
    for each in (alive, another):
        each.close()

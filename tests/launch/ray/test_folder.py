"""Whether a learner's machine sees the run's folder."""

from __future__ import annotations

import threading

import pytest

from impala_tf.errors import UserError
from impala_tf.launch.ray import folder
from impala_tf.records.logdir import LogDir


def test_a_second_command_leaves_the_mark_of_the_first(tmp_path):
    logdir = LogDir(str(tmp_path))
    token = folder.mark(logdir)
    with logdir.lock(), pytest.raises(UserError, match="Another run is using --logdir"):
        folder.mark(LogDir(str(tmp_path)))
    assert (tmp_path / ".driver").read_text() == token != folder.mark(logdir)


def test_work_runs_where_the_folder_is(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "_SEEN_SECONDS", 0.3)
    logdir, elsewhere = LogDir(str(tmp_path / "run")), tmp_path / "elsewhere"
    logdir.checkpoints.mkdir(parents=True)
    token = folder.mark(logdir)

    def run(path, token, frames):
        return folder.run_there(str(path), token, frames, "10.0.0.7", lambda starts: starts + 1, 2)

    assert run(logdir.path, token, 0) == 3
    with pytest.raises(UserError, match=r"elsewhere on 10\.0\.0\.7, .* storage that all machines share"):
        run(elsewhere, token, 0)
    with pytest.raises(UserError, match="is not the folder of this name"):
        run(logdir.path, "of an earlier start", 0)
    with pytest.raises(UserError, match=r"up to 0 frames, and one at 300 was written: .*does not begin again below it"):
        run(logdir.path, token, 300)
    (logdir.checkpoints / "000000000300").mkdir()
    assert run(logdir.path, token, 300) == 3
    lock = logdir.lock()
    threading.Timer(1.5, lock.close).start()  # Whoever tries once waits a second.
    assert run(logdir.path, token, 300) == 3
    assert lock.closed
    monkeypatch.setattr(folder, "_LOCK_SECONDS", 0.1)
    with logdir.lock():
        assert run(logdir.path, token, 300) == 3  # The work itself will say so.

"""The folder of a run: its settings and its lock."""

import errno
import json
import os
import pathlib
import subprocess
import sys
import threading

import pytest

from impala_tf import config as config_lib
from impala_tf import topology
from impala_tf.errors import UserError
from impala_tf.records import provenance
from impala_tf.records.logdir import OF_ONE_PROCESS, LogDir


def _checkpoint(logdir, frames=100):
    (logdir.checkpoints / f"{frames:012d}").mkdir(parents=True)


def _config(path, **values):
    return config_lib.from_values({"logdir": str(path), "env": "catch", **values})


def test_a_new_folder_is_created_with_its_settings(tmp_path):
    config = _config(tmp_path / "a" / "b", learning_rate=0.5)
    LogDir(config.run.logdir).prepare(config)
    saved = json.loads((tmp_path / "a" / "b" / "config.json").read_text())
    assert config_lib.to_values(config).items() <= saved.items()


def test_what_else_is_known_of_a_start(tmp_path):
    logdir, config = LogDir(str(tmp_path)), _config(tmp_path, envs_per_actor=7)
    logdir.prepare(config, topology.resolve(config, 1, topology.alone("localhost:1234")))
    saved = json.loads(logdir.config.read_text())
    assert saved["num_actors"] == len(os.sched_getaffinity(0)) and saved["learner_threads"] >= 1
    assert saved["left_open"] == {"env_threads": 0, "num_actors": -1, "learner_threads": 0}
    assert saved["address"] == ""  # Of one process.
    assert logdir.read_config() == config  # As the flags gave it, for a start on another machine.
    started = logdir.read_started()
    assert {"impala_tf", "python", "dm-reverb"} <= started["versions"].keys()
    assert started["command"] and started["machine"] and len(started["time"]) == 24


def test_the_commit(tmp_path):
    def git(*arguments):
        command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com", "-C", str(tmp_path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert provenance.commit(tmp_path) is None
    git("init")
    file = tmp_path / "provenance.py"
    file.write_text("1\n")
    assert provenance.commit(tmp_path) is None  # Installed into an environment inside somebody's repository.
    git("add", "provenance.py")
    git("commit", "-m", "first")
    assert provenance.commit(tmp_path) == git("rev-parse", "HEAD")
    file.write_text("2\n")
    assert provenance.commit(tmp_path) == git("rev-parse", "HEAD") + "-dirty"


def test_settings_of_a_run_without_checkpoint_bind_nobody(tmp_path):
    logdir = LogDir(str(tmp_path))
    logdir.prepare(_config(tmp_path, learning_rate=6.0))
    _checkpoint(logdir, 0)  # Earlier versions wrote one for a run that was interrupted before its first update.
    logdir.prepare(_config(tmp_path, learning_rate=0.006))
    assert logdir.read_config().optimizer.learning_rate == 0.006
    assert logdir.frames == 0 and not (tmp_path / "earlier-1").exists()


def test_records_without_a_checkpoint_are_kept_under_another_name(tmp_path, caplog):
    logdir = LogDir(str(tmp_path))
    for number in (1, 2):
        logdir.prepare(_config(tmp_path, seed=number))
        logdir.progress.write_text(f"frames\n{number}\n")
        logdir.tensorboard.mkdir(parents=True)
        (logdir.exports / "000000000100").mkdir(parents=True)
        logdir.evaluation.mkdir()
        (logdir.evaluation / "000000000100.json").write_text("{}")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "from scratch" in caplog.messages[0] and str(tmp_path / "earlier-1") in caplog.messages[0]
    logdir.prepare(_config(tmp_path))
    for number in (1, 2):
        earlier = LogDir(str(tmp_path / f"earlier-{number}"))
        assert earlier.progress.read_text() == f"frames\n{number}\n"
        assert earlier.read_config().run.seed == number
        assert earlier.tensorboard.is_dir() and (earlier.exports / "000000000100").is_dir()
        assert (earlier.evaluation / "000000000100.json").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"earlier-1", "earlier-2", "config.json", "logs", ".claim"}


def test_records_with_a_checkpoint_stay(tmp_path):
    logdir = LogDir(str(tmp_path))
    _checkpoint(logdir)
    logdir.progress.write_text("frames\n100\n")
    logdir.prepare(_config(tmp_path))
    assert logdir.progress.exists() and not (tmp_path / "earlier-1").exists()


def test_what_dead_processes_left_half_written_is_removed(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    logdir = LogDir(str(tmp_path))
    logdir.exports.mkdir()
    _checkpoint(logdir)

    def temporary(pid):
        return [
            tmp_path / f".{pid}.config.json",
            tmp_path / f".write-test-{pid}",
            logdir.exports / f".000000000100.{pid}",
        ]

    others = [tmp_path / ".hidden", tmp_path / ".1x.csv"]
    for path in (*temporary(dead.pid), *temporary(os.getppid()), *others):
        path.mkdir() if path.parent == logdir.exports else path.write_text("")
    logdir.prepare(_config(tmp_path))
    assert not any(path.exists() for path in temporary(dead.pid))
    assert all(path.exists() for path in (*temporary(os.getppid()), *others))


@pytest.mark.parametrize("what", ["removed", "replaced", "emptied", "moved below a file"])
def test_a_folder_that_disappears_is_noticed(tmp_path, what):
    logdir = LogDir(str(tmp_path / "run"))
    logdir.check_there()  # It has not been locked.
    logdir.check(_config(logdir.path))
    with logdir.lock():
        logdir.prepare(_config(logdir.path))
        logdir.check_there()
        if what == "emptied":
            logdir.config.unlink()
        else:
            logdir.path.rename(tmp_path / "elsewhere")
        if what == "replaced":
            logdir.check(_config(logdir.path))
            logdir.prepare(_config(logdir.path))
        if what == "moved below a file":
            logdir.path.write_text("")
        with pytest.raises(UserError, match="has been removed or replaced"):
            logdir.check_there()


def test_a_learner_that_was_taken_for_dead_notices_its_successor(tmp_path, monkeypatch):
    """Where the lock does not reach, as between machines of some file servers: here, it is let go."""
    first, second = LogDir(str(tmp_path)), LogDir(str(tmp_path))
    first.check(_config(tmp_path))
    with first.lock():
        first.prepare(_config(tmp_path))
    second.lock().close()  # Whoever only looks whether the folder is free takes nothing over.
    first.check_there()
    with second.lock():
        second.prepare(_config(tmp_path))
        second.check_there()
        with pytest.raises(UserError, match=r"started later, has taken over --logdir=.*writes nothing more"):
            first.check_there()
    read_text = pathlib.Path.read_text

    def away(path, *arguments, **options):
        if path.name == ".claim":
            raise OSError(errno.EIO, "the file server is away")
        return read_text(path, *arguments, **options)

    monkeypatch.setattr(pathlib.Path, "read_text", away)
    first.check_there()  # For a moment, perhaps.


def test_settings_that_are_not_given_are_those_of_the_run(tmp_path):
    logdir = LogDir(str(tmp_path))
    assert logdir.completed({"seed": 2}) == {"seed": 2}
    config = _config(tmp_path, learning_rate=0.5, port=4000, role="learner")
    logdir.prepare(config, topology.resolve(config, 1, topology.alone("localhost:1")))
    given = {"logdir": "elsewhere", "total_frames": 7}
    expected = {"env": "catch", "learning_rate": 0.5, **given}
    assert config_lib.from_values(logdir.completed(given)) == config_lib.from_values(expected)
    assert not (set(OF_ONE_PROCESS) - {"logdir"}) & set(logdir.completed(given))


def test_other_settings_are_refused_and_nothing_is_overwritten(tmp_path):
    logdir = LogDir(str(tmp_path))
    logdir.prepare(_config(tmp_path))
    _checkpoint(logdir)
    before = logdir.config.read_text()
    with pytest.raises(UserError, match=r"--unroll_length: 20 there, 5 now"):
        logdir.prepare(_config(tmp_path, unroll_length=5))
    assert logdir.config.read_text() == before
    logdir.prepare(_config(tmp_path, num_actors=9))


def test_unusable_folders_are_reported(tmp_path):
    with pytest.raises(UserError, match="--logdir is needed"):
        LogDir("").prepare(config_lib.from_values({}))
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UserError, match="cannot be used"):
        LogDir(str(file / "below")).prepare(_config(file / "below"))
    (tmp_path / "config.json").write_text('{"env": ')
    with pytest.raises(UserError, match="damaged"):
        LogDir(str(tmp_path)).prepare(_config(tmp_path))


@pytest.mark.parametrize("name", ["progress.csv", "tasks.csv", "evaluations.csv"])
def test_damaged_logs_of_a_run_are_reported_before_anything_starts(tmp_path, name):
    (tmp_path / name).write_text("frames,x\nhello,1\n")
    logdir = LogDir(str(tmp_path))
    logdir.check(_config(tmp_path))  # Without a checkpoint there is no run yet.
    (logdir.checkpoints / "000000000100").mkdir(parents=True)
    with pytest.raises(UserError, match=f"{name}, line 2"):
        logdir.check(_config(tmp_path))


def test_a_record_that_cannot_be_set_aside_is_named(tmp_path):
    (tmp_path / "progress.csv").write_text("frames,x\n100,1\n")
    (tmp_path / "earlier-1").symlink_to(tmp_path / "nowhere")  # It does not "exist", and cannot be made.
    with pytest.raises(UserError, match=r"cannot be prepared: File exists \(.*earlier-1\)"):
        LogDir(str(tmp_path)).prepare(_config(tmp_path))


def test_two_learners_cannot_share_a_folder(tmp_path):
    logdir = LogDir(str(tmp_path))
    lock = logdir.lock()
    with pytest.raises(UserError, match="Another run"):
        logdir.lock()
    # A process that was killed may still hold the lock when the next one asks for it.
    threading.Timer(0.2, lock.close).start()
    logdir.lock().close()


def test_the_settings_of_a_run_are_read_back(tmp_path):
    logdir = LogDir(str(tmp_path))
    with pytest.raises(UserError, match=r"holds no run: it has no config\.json"):
        logdir.read_config()
    config = _config(tmp_path, learning_rate=0.5)
    logdir.prepare(config)
    assert logdir.read_config() == config
    logdir.config.write_text('{"no_such_setting": 1}')
    with pytest.raises(UserError, match="was written by another version of impala_tf: Unknown setting"):
        logdir.read_config()

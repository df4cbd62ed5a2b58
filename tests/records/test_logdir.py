"""The folder of a run: its settings and its lock."""

import json

import pytest

from impala_tf import config as config_lib
from impala_tf.errors import UserError
from impala_tf.records.logdir import LogDir


def _config(path, **values):
    return config_lib.from_values({"logdir": str(path), "env": "catch", **values})


def test_a_new_folder_is_created_with_its_settings(tmp_path):
    config = _config(tmp_path / "a" / "b", learning_rate=0.5)
    LogDir(config.run.logdir).prepare(config)
    saved = json.loads((tmp_path / "a" / "b" / "config.json").read_text())
    assert config_lib.from_values(saved) == config


def test_other_settings_are_refused_and_nothing_is_overwritten(tmp_path):
    logdir = LogDir(str(tmp_path))
    logdir.prepare(_config(tmp_path))
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


def test_two_learners_cannot_share_a_folder(tmp_path):
    logdir = LogDir(str(tmp_path))
    lock = logdir.lock()
    with pytest.raises(UserError, match="Another run"):
        logdir.lock()
    lock.close()
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

"""The folder of a run and who may use it."""

import json

import pytest

from impala_tf import config as config_lib
from impala_tf.errors import UserError
from impala_tf.records.logdir import LogDir, write_json


def _config(path, **values):
    return config_lib.from_values({"logdir": str(path), "env": "catch", **values})


def test_a_new_folder_is_made_with_its_settings(tmp_path):
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


def test_folders_that_cannot_be_used_are_told(tmp_path):
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


def test_json_is_replaced_whole(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}

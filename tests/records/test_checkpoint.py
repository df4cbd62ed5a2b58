"""Checkpoints are atomic, the last N are kept, and the newest readable one is restored."""

import logging
import os
import time

import pytest
import tensorflow as tf

from impala_tf.errors import UserError
from impala_tf.records.checkpoint import Checkpointer, reason_of


class _Module(tf.Module):
    def __init__(self, value=0.0):
        super().__init__()
        self.weights = tf.Variable(tf.fill([1000], value))
        self.step = tf.Variable(int(value), dtype=tf.int64)


def _save_three(folder, keep=3):
    module = _Module()
    checkpointer = Checkpointer(folder, keep, module=module)
    for value in (1, 2, 3):
        module.weights.assign(tf.fill([1000], float(value)))
        module.step.assign(value)
        checkpointer.save(value * 1000, {"value": value})


def _restore(folder):
    module = _Module()
    return module, Checkpointer(folder, 3, module=module).restore()


def test_an_empty_folder_restores_nothing(tmp_path, caplog):
    module, state = _restore(tmp_path / "new")
    assert state is None
    assert caplog.messages == []
    assert (module.weights.numpy() == 0).all()


def test_the_newest_is_restored(tmp_path, caplog):
    _save_three(tmp_path)
    module, state = _restore(tmp_path)
    assert state == {"value": 3}
    assert int(module.step) == 3
    assert (module.weights.numpy() == 3).all()
    assert caplog.messages == []


def test_older_ones_are_removed(tmp_path):
    _save_three(tmp_path, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000000002000", "000000003000"]


def _flip_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: _flip_byte(next(folder.glob("*.data-*"))),
        lambda folder: next(folder.glob("*.data-*")).write_bytes(b""),
        lambda folder: next(folder.glob("*.index")).write_bytes(b"nonsense"),
        lambda folder: next(folder.glob("*.index")).unlink(),
        lambda folder: (folder / "state.json").write_text('{"value": '),
        lambda folder: (folder / "state.json").unlink(),
    ],
    ids=["flipped byte", "empty data", "bad index", "no index", "half state", "no state"],
)
def test_a_damaged_newest_falls_back_to_the_one_before_with_a_warning(tmp_path, caplog, damage):
    _save_three(tmp_path)
    damage(tmp_path / "000000003000")
    module, state = _restore(tmp_path)
    assert state == {"value": 2}
    assert int(module.step) == 2
    assert (module.weights.numpy() == 2).all()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("impala_tf.records.checkpoint", logging.WARNING)
    assert "000000003000 is damaged (" in record.getMessage()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["000000001000", "000000002000", "damaged-000000003000"]


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    other = tf.Module()
    other.weights = tf.Variable(tf.zeros([7]))
    Checkpointer(tmp_path, 3, module=other).save(1, {})
    with pytest.raises(UserError, match="None of the 1 checkpoints"):
        _restore(tmp_path)


def test_a_checkpoint_at_0_frames_binds_nobody(tmp_path):
    """Earlier versions wrote one for a run that was interrupted before its first update."""
    other = tf.Module()
    other.weights = tf.Variable(tf.zeros([7]))
    Checkpointer(tmp_path, 3, module=other).save(0, {})
    module, state = _restore(tmp_path)
    assert state is None and (module.weights.numpy() == 0).all()


def test_if_none_can_be_read_training_does_not_start_from_scratch(tmp_path):
    _save_three(tmp_path)
    for folder in tmp_path.iterdir():
        _flip_byte(next(folder.glob("*.data-*")))
    with pytest.raises(UserError, match="None of the 3 checkpoints"):
        _restore(tmp_path)


def test_an_unfinished_save_is_ignored_and_removed(tmp_path):
    """A process that is killed while it writes leaves one. The next start removes it, and so does the next save."""
    _save_three(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    partial = tmp_path / ".partial-000000004000"

    def leave():
        partial.mkdir()
        (partial / "state.json").write_text('{"value": 4}')

    leave()
    assert _restore(tmp_path)[1] == {"value": 3}
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    module = _Module(3.0)
    checkpointer = Checkpointer(tmp_path, 3, module=module)
    leave()
    checkpointer.save(3000, {"value": 3})
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_a_checkpoint_that_is_there_is_not_written_again(tmp_path):
    """Replacing it would leave a moment without it, in which the process may be killed."""
    _save_three(tmp_path)
    before = (tmp_path / "000000003000").stat()
    Checkpointer(tmp_path, 3, module=_Module(3.0)).save(3000, {"value": 3})
    after = (tmp_path / "000000003000").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert _restore(tmp_path)[1] == {"value": 3}


def test_a_folder_that_was_removed_is_made_again_but_not_its_parent(tmp_path):
    checkpointer = Checkpointer(tmp_path / "run" / "checkpoints", 3, module=_Module())
    (tmp_path / "run" / "checkpoints").rmdir()
    checkpointer.save(1000, {})
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["000000001000"]
    (tmp_path / "run").rename(tmp_path / "moved")
    with pytest.raises(OSError):
        checkpointer.save(2000, {})
    assert [path.name for path in tmp_path.iterdir()] == ["moved"]


def test_the_age_is_that_of_the_newest(tmp_path):
    checkpointer = Checkpointer(tmp_path, 3, module=_Module())
    assert checkpointer.age is None
    _save_three(tmp_path)
    assert 0 <= checkpointer.age < 60
    now = time.time()
    for name, age in (("000000001000", 10), ("000000003000", 1000)):
        os.utime(tmp_path / name, (now - age, now - age))
    assert 1000 <= checkpointer.age < 1060


def test_the_reason_of_a_failure_is_short(tmp_path):
    folder = tmp_path / "no" / "such" / "folder"
    with pytest.raises(tf.errors.OpError) as error:
        tf.train.Checkpoint(module=_Module()).write(str(tmp_path / ("x" * 300)))
    assert reason_of(error.value) == "File name too long"
    with pytest.raises(OSError) as other:
        folder.mkdir()
    assert reason_of(other.value) == "No such file or directory"
    full = "{{function_node __wrapped__SaveV2}} /run/part-0.data; No space left on device [Op:SaveV2]"
    assert reason_of(tf.errors.ResourceExhaustedError(None, None, full)) == "No space left on device"
    events = "/run/events.1; No space left on device\n\tFailed to flush 11 events to /run/events.1"
    assert reason_of(tf.errors.ResourceExhaustedError(None, None, events)) == "No space left on device"
    assert len(reason_of(tf.errors.InternalError(None, None, "x" * 1000))) == 100


def test_a_save_that_fails_leaves_the_earlier_ones(tmp_path):
    _save_three(tmp_path)
    module = _Module()
    with pytest.raises(TypeError):
        Checkpointer(tmp_path, 3, module=module).save(4000, {"value": object()})  # Not JSON: fails after the variables.
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000000001000", "000000002000", "000000003000"]
    assert _restore(tmp_path)[1] == {"value": 3}

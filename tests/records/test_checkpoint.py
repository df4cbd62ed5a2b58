"""Checkpoints: atomic, kept N deep, and restored from the newest that can be read."""

import pytest
import tensorflow as tf

from impala_tf.errors import UserError
from impala_tf.records.checkpoint import Checkpointer


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
    module, said = _Module(), []
    state = Checkpointer(folder, 3, module=module).restore(said.append)
    return module, state, said


def test_an_empty_folder_restores_nothing(tmp_path):
    module, state, said = _restore(tmp_path / "new")
    assert state is None
    assert said == []
    assert (module.weights.numpy() == 0).all()


def test_the_newest_is_restored(tmp_path):
    _save_three(tmp_path)
    module, state, said = _restore(tmp_path)
    assert state == {"value": 3}
    assert int(module.step) == 3
    assert (module.weights.numpy() == 3).all()
    assert said == []


def test_no_more_are_kept_than_asked_for(tmp_path):
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
def test_a_damaged_newest_falls_back_to_the_one_before_and_says_so(tmp_path, damage):
    _save_three(tmp_path)
    damage(tmp_path / "000000003000")
    module, state, said = _restore(tmp_path)
    assert state == {"value": 2}
    assert int(module.step) == 2
    assert (module.weights.numpy() == 2).all()
    assert len(said) == 1
    assert "000000003000 is damaged" in said[0]


def test_a_checkpoint_of_another_network_is_not_taken_for_this_one(tmp_path):
    other = tf.Module()
    other.weights = tf.Variable(tf.zeros([7]))
    Checkpointer(tmp_path, 3, module=other).save(1, {})
    with pytest.raises(UserError, match="None of the 1 checkpoints"):
        _restore(tmp_path)


def test_when_none_can_be_read_nothing_starts_from_scratch(tmp_path):
    _save_three(tmp_path)
    for folder in tmp_path.iterdir():
        _flip_byte(next(folder.glob("*.data-*")))
    with pytest.raises(UserError, match="None of the 3 checkpoints"):
        _restore(tmp_path)


def test_a_save_that_was_cut_off_is_not_seen(tmp_path):
    """What a process leaves that is killed while it writes."""
    _save_three(tmp_path)
    partial = tmp_path / ".partial-000000004000"
    partial.mkdir()
    (partial / "state.json").write_text('{"value": 4}')
    assert _restore(tmp_path)[1] == {"value": 3}


def test_a_save_that_fails_leaves_the_earlier_ones(tmp_path):
    _save_three(tmp_path)
    module = _Module()
    with pytest.raises(TypeError):
        Checkpointer(tmp_path, 3, module=module).save(4000, {"value": object()})  # Not JSON: fails after the variables.
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000000001000", "000000002000", "000000003000"]
    assert _restore(tmp_path)[1] == {"value": 3}

"""Hyperparameters from a CSV file."""

from __future__ import annotations

import pytest

from impala_tf.errors import UserError
from impala_tf.experiments import values
from run import near

NAMES = ("learning_rate", "batch_size", "core", "fire_on_reset")


def test_values_have_their_settings_types(tmp_path):
    (tmp_path / "v.csv").write_text(
        "learning_rate, batch_size,core,fire_on_reset\n1e-3,8,lstm,true\n\n2,16,none,False\n"
    )
    assert values.read(tmp_path / "v.csv", NAMES, near.matches) == [
        {"learning_rate": 0.001, "batch_size": 8, "core": "lstm", "fire_on_reset": True},
        {"learning_rate": 2.0, "batch_size": 16, "core": "none", "fire_on_reset": False},
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr\n1\n", "has a column 'lr': did you mean learning_rate?"),
        ("zzz\n1\n", "has a column 'zzz': columns are names of settings, learning_rate, batch_size"),
        ("learning_rate;core\n1;lstm\n", "'learning_rate;core': columns are separated by commas"),
        ("learning_rate\n", "needs a line with names of settings"),
        ("", "needs a line with names"),
        ("core,core\nlstm,none\n", "each once"),
        ("learning_rate,core\n1\n", "row 2: 1 values for 2 columns"),
        ("learning_rate\n1\n-1\n", "row 3: learning_rate '-1' must be at least 0"),
        ("batch_size\n1.5\n", "row 2: batch_size '1.5' must be a whole number"),
        ("core\ngru\n", "row 2: core 'gru' must be one of none, lstm"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    (tmp_path / "v.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        values.read(tmp_path / "v.csv", NAMES, near.matches)


def test_a_spreadsheets_mark_of_its_encoding_is_no_part_of_a_name(tmp_path):
    (tmp_path / "v.csv").write_text("core\nlstm\n", encoding="utf-8-sig")
    assert values.read(tmp_path / "v.csv", NAMES, near.matches) == [{"core": "lstm"}]


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nothing.csv cannot be read: No such file"):
        values.read(tmp_path / "nothing.csv", NAMES, near.matches)

"""Flags: how people write numbers and paths, and what is refused while it is read."""

import os

import pytest
from absl import flags as absl_flags

from impala_tf import config as config_lib
from impala_tf import flags


@pytest.fixture(scope="module", autouse=True)
def defined():
    if "total_frames" not in absl_flags.FLAGS:
        flags.define()


@pytest.fixture
def parse():
    """Returns a function that parses one flag and returns its value; the flag is reset in the end."""
    yield lambda name, text: (absl_flags.FLAGS(["impala-train", f"--{name}={text}"]), absl_flags.FLAGS[name].value)[1]
    absl_flags.FLAGS.unparse_flags()


WHOLE = [s.name for _, s in config_lib.settings() if s.type == "int"]


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers_as_people_write_them(parse, name):
    for text, value in (("4_0", 40), ("4e1", 40), ("4.2E1", 42), ("40.0", 40), ("+40", 40)):
        number = parse(name, text)
        assert number == value and isinstance(number, int)


def test_large_numbers_are_exact(parse):
    assert parse("total_frames", "1e6") == parse("total_frames", "1_000_000") == 1_000_000
    assert parse("total_frames", "2.5e6") == 2_500_000
    assert parse("total_frames", "9007199254740993") == 9007199254740993  # Not a float.


@pytest.mark.parametrize("text", ["1.5", "10M", "", "1e-3", "nan", "inf", "1e999999999", "0x10", "true"])
def test_what_is_no_whole_number_is_refused(parse, text):
    with pytest.raises(absl_flags.IllegalFlagValueError, match=r"must be a whole number, such as .*2\.5e6"):
        parse("total_frames", text)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("learning_rate", "fast", "must be a number, such as"),
        ("learning_rate", "inf", "must be finite"),
        ("learning_rate", "nan", "must be at least 0"),
        ("batch_size", "0", "must be at least 1"),
        ("core", "gru", "must be one of none, lstm"),
    ],
)
def test_wrong_values_are_refused_while_they_are_read(parse, name, text, message):
    with pytest.raises(absl_flags.IllegalFlagValueError, match=f"--{name}={text}: {message}"):
        parse(name, text)


PATHS = [s.name for _, s in config_lib.settings() if s.metadata["path"]]


@pytest.mark.parametrize("name", PATHS)
def test_the_home_folder(parse, name):
    assert parse(name, "~/x") == os.path.expanduser("~/x") != "~/x"
    assert parse(name, "x~") == "x~"


def test_all_that_say_folder_or_path_are_paths():
    assert "logdir" in PATHS
    for _, setting in config_lib.settings():
        if setting.metadata["help"].startswith("Folder") or " path of " in setting.metadata["help"]:
            assert setting.name in PATHS

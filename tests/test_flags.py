"""Flags: how people write numbers and paths, and what is refused while it is read."""

import os
import pathlib

import pytest
from absl import flags as absl_flags

from impala_tf import config as config_lib
from impala_tf import flags

FLAGFILES = pathlib.Path(__file__).parents[1] / "run" / "flagfiles"


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


# Lists of flags, apart from the command's


def test_a_list_of_flags():
    lines = ["--core=lstm", "--learning_rate=1e-3", "--total_frames=2.5e6", "--logdir=~/x"]
    values = flags.parse([*lines, "--full_action_set", "--nolife_loss_ends_episode", "--fire_on_reset=false"])
    assert values == {
        "core": "lstm",
        "learning_rate": 0.001,
        "total_frames": 2_500_000,
        "life_loss_ends_episode": False,
        "fire_on_reset": False,
        "full_action_set": True,
        "logdir": os.path.expanduser("~/x"),
    }
    assert isinstance(values["total_frames"], int)
    assert flags.parse([]) == {}


def test_what_is_given_is_returned_even_if_it_is_the_default():
    default = config_lib.Config().data.batch_size
    assert flags.parse([f"--batch_size={default}"]) == {"batch_size": default}


def test_the_last_of_equal_flags_counts():
    assert flags.parse(["--batch_size=4", "--batch_size=8"]) == {"batch_size": 8}


def test_the_commands_own_flags_stay_as_they_are():
    before = {name: absl_flags.FLAGS[name].value for name in absl_flags.FLAGS}
    flags.parse(["--core=lstm", "--batch_size=3"])
    assert {name: absl_flags.FLAGS[name].value for name in absl_flags.FLAGS} == before
    assert not absl_flags.FLAGS["core"].present


@pytest.mark.parametrize("file", sorted(FLAGFILES.glob("*.flags")), ids=lambda file: file.stem)
def test_a_flag_file(file):
    """Read here by hand: --name and --noname are booleans, and other values are written as Python writes them."""
    types = {setting.name: type(setting.default) for _, setting in config_lib.settings()}
    written = {}
    for line in file.read_text().splitlines():
        if line.startswith("--"):
            name, equals, text = line[2:].partition("=")
            on = name in types
            written[name if on else name.removeprefix("no")] = types[name](text) if equals else on
    assert len(written) > 1 and flags.parse([f"--flagfile={file}"]) == written


@pytest.mark.parametrize(
    ("flag", "error", "message"),
    [
        ("--core=gru", absl_flags.IllegalFlagValueError, "must be one of none, lstm"),
        ("--corre=lstm", absl_flags.UnrecognizedFlagError, "corre"),
        ("--nocore", absl_flags.UnrecognizedFlagError, "nocore"),
    ],
)
def test_wrong_flags_of_a_list_are_refused(flag, error, message):
    with pytest.raises(error, match=message):
        flags.parse([flag])

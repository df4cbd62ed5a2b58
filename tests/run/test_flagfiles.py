"""The paper's set-ups that are shipped as flag files."""

import importlib.resources

import pytest

from impala_tf import config as config_lib

FOLDER = importlib.resources.files("run").joinpath("flagfiles")
FILES = sorted(file.name for file in FOLDER.iterdir() if file.name.endswith(".flags"))


def _values(name):
    """{setting: text} of the file's lines."""
    values = {}
    for line in FOLDER.joinpath(name).read_text().splitlines():
        if line.startswith("--"):
            flag, _, value = line[2:].partition("=")
            negated = flag.removeprefix("no") in ("full_action_set", "fire_on_reset") and not value
            values[flag.removeprefix("no") if negated else flag] = value or not negated
    return values


def test_both_atari_set_ups_are_there():
    assert {"atari_shallow.flags", "atari_deep.flags"} <= set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_flag_files_name_known_settings_and_give_table_g1(name):
    """Table G.1's values are the defaults, which tests/test_config.py holds against the table; so they must agree."""
    types = {setting.name: type(setting.default) for _, setting in config_lib.settings()}
    values = {flag: types[flag](value) for flag, value in _values(name).items()}
    config = config_lib.from_values(values)
    assert config.network.torso == ("deep" if "deep" in name else "shallow")
    defaults = config_lib.to_values(config_lib.Config())
    assert {f: v for f, v in values.items() if v != defaults[f] and f != "torso"} == {}

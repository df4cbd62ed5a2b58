"""Users' own classes and functions, which settings name as module:attribute."""

from __future__ import annotations

import pytest

from impala_tf import config, extensions
from impala_tf.errors import UserError

MODULE = """
class Base: pass
class Own(Base): pass
OWN = Own()
NUMBER = 3
"""


@pytest.fixture
def modules(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_things.py").write_text(MODULE)
    (tmp_path / "own_ruin.py").write_text("raise RuntimeError('on\\npurpose')")
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "__init__.py").write_text("import no_such_thing")
    (tmp_path / "own_package" / "inside.py").write_text("A = 1")


def test_what_a_name_stands_for_is_imported(modules):
    import own_things

    assert extensions.load_class("torso", "own_things:Own", own_things.Base) is own_things.Own
    assert extensions.load("correction", "own_things:OWN", own_things.Base) is own_things.OWN


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_module:A", r"--torso=no_such_module:A: there is no module no_such_module\. Install it, or name its"),
        ("no_such.module:A", r"there is no module no_such\.module\."),
        ("own_ruin:A", "importing own_ruin failed: RuntimeError: on purpose"),
        ("own_package.inside:A", "there is no module own_package.inside|importing own_package.inside failed"),
        ("own_things:Owl", "own_things has no Owl"),
        ("own_things:NUMBER", "must be a subclass of builtins.dict, not a int"),
        ("own_things:Own", "must be a subclass of builtins.dict, not the class own_things.Own"),
    ],
)
def test_errors_say_what_is_wrong(modules, value, message):
    with pytest.raises(UserError, match=message):
        extensions.load_class("torso", value, dict)
    if "must be" in message:
        with pytest.raises(UserError, match=message.replace("a subclass", "an instance")):
            extensions.load("torso", value, dict)


@pytest.mark.parametrize("value", ["shallow", "a.b", ":b", "a:", "a:b:c", "a b:c", "a/b:c", "a:b.c"])
def test_other_values_are_no_names(value):
    assert not extensions.is_name(value)
    extensions.check("torso", value)


@pytest.mark.parametrize(("setting", "value"), [("torso", "my.networks:Wide"), ("correction", "mine:OWN")])
def test_settings_take_them(setting, value):
    made = config.from_values({setting: value, "rho_bar": 2.0})
    assert config.to_values(made)[setting] == value
    with pytest.raises(UserError, match=f"--{setting}=mine: must be one of .*, or module:attribute"):
        config.from_values({setting: "mine"})
    with pytest.raises(UserError, match="--architecture=a:b"):
        config.from_values({"architecture": "a:b"})

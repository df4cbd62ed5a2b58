"""A user's own classes and functions, which settings name as module:attribute (my_networks:Wide).

Every process of a run imports them by that name; a registration would exist in one process only. The module must be
importable in all of them: installed, or in a folder that PYTHONPATH names.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from typing import Any

from impala_tf.errors import UserError, one_line

FORM = "module:attribute"
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def is_name(value: str) -> bool:
    """Whether a value has the form module:attribute."""
    return _NAME.fullmatch(value) is not None


def check(setting: str, value: str) -> None:
    """Checks that the module of a name exists, without importing it: it may import TensorFlow, which takes seconds.

    Args:
      setting: setting with the value, for messages.
      value: any value; only names as module:attribute are checked.

    Raises:
      UserError: there is no such module.
    """
    if not is_name(value):
        return
    module = value.partition(":")[0]
    try:
        found = importlib.util.find_spec(module)
    except ImportError:  # Of a package that it is in.
        found = None
    except Exception as error:
        raise UserError(f"--{setting}={value}: importing {module} failed: {one_line(error)}.") from None
    if found is None:
        raise UserError(
            f"--{setting}={value}: there is no module {module}. Install it, or name its folder in PYTHONPATH "
            f"(PYTHONPATH=. for the current one)."
        )


def load(setting: str, value: str, kind: type) -> Any:
    """Imports the object that a name stands for.

    Args:
      setting: setting with the name, for messages.
      value: module:attribute.
      kind: class that it must be an instance of.

    Raises:
      UserError: there is no such module or attribute, the import fails, or the object is of another kind.
    """
    found = _import(setting, value)
    if not isinstance(found, kind):
        raise UserError(f"--{setting}={value} must be an instance of {_name(kind)}, not {_article(found)}.")
    return found


def load_class(setting: str, value: str, base: type) -> Any:
    """Imports the class that a name stands for, a subclass of `base`; otherwise as `load`."""
    found = _import(setting, value)
    if not isinstance(found, type) or not issubclass(found, base):
        raise UserError(f"--{setting}={value} must be a subclass of {_name(base)}, not {_article(found)}.")
    return found


def _import(setting: str, value: str) -> Any:
    check(setting, value)
    module, _, attribute = value.partition(":")
    try:
        found = importlib.import_module(module)
    except Exception as error:
        raise UserError(f"--{setting}={value}: importing {module} failed: {one_line(error)}.") from error
    if not hasattr(found, attribute):
        raise UserError(f"--{setting}={value}: {module} has no {attribute}.")
    return getattr(found, attribute)


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__name__}"


def _article(found: Any) -> str:
    return f"the class {_name(found)}" if isinstance(found, type) else f"a {type(found).__name__}"

"""Imports of large libraries, without what takes much of their time and is of no use.

Nearly all objects that libraries make when they are imported stay, and each full garbage collection would look at all
of them. And TensorFlow and TF-Agents import libraries for features that nothing here uses, if they are installed.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator

_UNUSED = ("h5py", "pandas", "scipy")  # Keras takes data and pictures from them, and writes files with them.


@contextlib.contextmanager
def quickly() -> Iterator[None]:
    """For imports that take long: see `begin` and `done`."""
    begin()
    try:
        yield
    finally:
        done()


def begin() -> None:
    """Turns garbage collections off, and makes it look as if the libraries in `_UNUSED` were not installed."""
    gc.disable()
    for name in _UNUSED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


def done() -> None:
    """Turns collections on, for objects made from now on, and lets every library be imported."""
    for name in _UNUSED:
        if name in sys.modules and sys.modules[name] is None:
            del sys.modules[name]
    gc.freeze()
    gc.enable()

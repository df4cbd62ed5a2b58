"""Imports without garbage collections, which would take a quarter of the time that TensorFlow's import takes.

Nearly all objects that libraries make when they are imported stay, and each full collection would look at all of them.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def quickly() -> Iterator[None]:
    """For imports that take long: collects nothing meanwhile, and never looks at what is there afterwards."""
    gc.disable()
    try:
        yield
    finally:
        done()


def done() -> None:
    """Turns collections on, for objects made from now on."""
    gc.freeze()
    gc.enable()

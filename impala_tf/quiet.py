"""Keeps other libraries' start-up messages off the user's terminal."""

from __future__ import annotations

import os


def environment() -> None:
    """Sets what the libraries read from the environment; what the user has set stays."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

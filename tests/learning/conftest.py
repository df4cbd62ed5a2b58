"""Lets child processes import what they do from this folder."""

from __future__ import annotations

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parent))  # Children get it from here, too.

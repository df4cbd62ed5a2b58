"""Imported by every Python program with this folder in PYTHONPATH: the package's commands that it starts run in forks.

For programs that tests cannot fork, such as Ray's.
"""

import os
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parents[1]))

import warm

warm.start_commands_at(os.environ[warm.ADDRESS])

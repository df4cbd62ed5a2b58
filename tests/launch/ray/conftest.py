"""A cluster for the tests of a module."""

from __future__ import annotations

import pathlib
import shutil
import sys
import tempfile

import pytest

pytest.importorskip("ray")
sys.path.append(str(pathlib.Path(__file__).parent))

from clusters import Nodes


@pytest.fixture(scope="module")
def cluster():
    """A head and two nodes with 2 CPUs each."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ray_", dir="/tmp"))  # Ray's sockets need short paths.
    made = Nodes(folder, 2, 2)
    yield made
    made.close()
    shutil.rmtree(folder, ignore_errors=True)

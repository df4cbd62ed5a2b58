"""Processes know nothing of the rest of the package, and start without its libraries."""

import pathlib
import subprocess
import sys

import impala_tf.processes

CODE = """
import importlib, sys
import impala_tf.errors
before = set(sys.modules)
for name in {modules!r}:
    importlib.import_module("impala_tf.processes." + name)
ours = [name for name in set(sys.modules) - before if name.startswith("impala_tf")]
others = [name for name in ours if not name.startswith("impala_tf.processes")]
sys.exit(str(others + [name for name in ("numpy", "tensorflow", "absl") if name in sys.modules] or "") or 0)
"""


def test_nothing_else_is_imported():
    modules = [path.stem for path in pathlib.Path(impala_tf.processes.__path__[0]).glob("[a-z]*.py")]
    assert "child" in modules
    command = [sys.executable, "-c", CODE.format(modules=modules)]
    assert subprocess.run(command, capture_output=True, text=True).stderr == ""

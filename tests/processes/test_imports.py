"""Processes know nothing of the rest of the package, start without its libraries, and import quickly."""

import pathlib
import subprocess
import sys

import pytest

sys.path.append(str(pathlib.Path(__file__).parent))  # Children get it from here, too.

import works

import impala_tf.processes
from impala_tf.processes.child import FORK_SERVER, SPAWN, Child

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


@pytest.mark.parametrize("context", [FORK_SERVER, SPAWN])
def test_garbage_is_collected_except_while_libraries_are_imported(context):
    """The fork server collects none; its children do, but not among what it has imported."""
    child = Child("collector", works.collecting, context=context)
    at_work, importing, failed, frozen_first, frozen_last = child.answer(60)
    child.end()
    assert at_work and not importing and failed
    assert 1000 < frozen_first < frozen_last


def test_libraries_that_nothing_uses_are_left_out_of_imports_and_can_be_imported_afterwards():
    child = Child("importer", works.importing)
    assert child.answer(60) == ([], False, True)
    child.end()
    code = "import sys; from impala_tf.processes import quick_imports, imports; import tensorflow; imports.done();"
    code += "sys.exit(str([name for name in ('h5py', 'pandas', 'scipy') if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "[]"

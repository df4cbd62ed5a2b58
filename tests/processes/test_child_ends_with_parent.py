"""What becomes of children when their parent ends, in scripts that are run and ended."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys

import pytest

sys.path.append(str(pathlib.Path(__file__).parent))

import works

HERE = pathlib.Path(__file__).parent

SCRIPT = """
import signal, sys, time
sys.path.append({here!r})
import works
from impala_tf.processes.child import Child
if __name__ == "__main__":
    path = {path!r}
    child = Child("child", works.{work}, path, context=works.CONTEXTS[{context!r}], orderly={orderly})
    other = Child("nest", works.nest, path + ".outer", "wait", {context!r}, context=works.CONTEXTS[{context!r}])
    works.noted(works.pathlib.Path(path))
    works.noted(works.pathlib.Path(path + ".outer"))
    print("ready", flush=True)
    {then}
"""


def write(folder: pathlib.Path, work: str, context: str, orderly: bool, then: str) -> list[str]:
    script = folder / "parent.py"
    values = {"here": str(HERE), "path": str(folder / "pids"), "work": work, "context": context, "orderly": orderly}
    script.write_text(SCRIPT.format(then=then, **values))
    return [sys.executable, str(script)]


def pids(folder: pathlib.Path) -> list[int]:
    return [pid for name in ("pids", "pids.outer", "pids.outer.inner") for pid in works.noted(folder / name)]


@pytest.mark.parametrize("context", works.CONTEXTS)
@pytest.mark.parametrize("work, orderly", [("sleep", False), ("hang", False), ("save_on_sigterm", True)])
def test_the_parent_is_killed(work: str, orderly: bool, context: str, tmp_path: pathlib.Path):
    script = write(tmp_path, work, context, orderly, "time.sleep(600)")
    with subprocess.Popen(script, stdout=subprocess.PIPE, cwd=HERE.parents[1], text=True) as parent:
        assert parent.stdout and parent.stdout.readline() == "ready\n"
        assert all(map(works.is_running, pids(tmp_path)))
        os.kill(parent.pid, signal.SIGKILL)
    assert works.all_end(pids(tmp_path))
    assert (tmp_path / "pids.saved").exists() == orderly


@pytest.mark.parametrize("context", works.CONTEXTS)
@pytest.mark.parametrize(
    "then, status",
    [
        ("pass", 0),
        ("raise SystemExit(3)", 3),
        ("child.end(); other.kill()", 0),
        ("signal.raise_signal(signal.SIGTERM)", -15),
    ],
)
def test_the_parent_ends(then: str, status: int, context: str, tmp_path: pathlib.Path):
    script = write(tmp_path, "hang", context, False, then)
    result = subprocess.run(script, capture_output=True, cwd=HERE.parents[1], text=True, timeout=120)
    assert (result.returncode, result.stdout, result.stderr) == (status, "ready\n", "")
    assert works.all_end(pids(tmp_path))


BLOCKED = """
import signal, sys
sys.path.append({here!r})
import works
from impala_tf.processes.child import Child
if __name__ == "__main__":
    child = Child("child", works.signal_masks, context=works.CONTEXTS[{context!r}])
    here, there = child.answer(60)
    assert signal.SIGINT in here, here
    if {context!r} == "forkserver":
        assert there & 1 << (signal.SIGINT - 1), there
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])
    child.end()
"""


@pytest.mark.parametrize("context", works.CONTEXTS)
def test_ctrl_c_reaches_no_child_nor_the_fork_server(context: str, tmp_path: pathlib.Path):
    (tmp_path / "parent.py").write_text(BLOCKED.format(here=str(HERE), context=context))
    subprocess.run([sys.executable, tmp_path / "parent.py"], cwd=HERE.parents[1], check=True, timeout=120)


LATE = """
import multiprocessing, os, signal, time
from impala_tf.processes.lifeline import hold
reader, writer = multiprocessing.Pipe(duplex=False)
writer.close()
os.setsid()
hold(reader.fileno(), {sig}, group={group})
time.sleep(600)
"""


@pytest.mark.parametrize("sig, group", [(signal.SIGTERM, False), (signal.SIGKILL, True)])
def test_the_parent_ended_before_the_child_could_ask_for_the_signal(sig: int, group: bool):
    code = LATE.format(sig=int(sig), group=group)
    assert subprocess.run([sys.executable, "-c", code], cwd=HERE.parents[1], timeout=60).returncode == -sig

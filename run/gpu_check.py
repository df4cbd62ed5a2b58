"""Tries the package on a GPU, step by step: `python -m run.gpu_check --output=gpu_check`.

Takes at most half an hour and needs no network. Every step has a time limit and a file for its output in the folder
--output; a step that fails does not stop the next. summary.json there has all results and numbers. The exit status is 1
if a step failed.

Without a GPU, the first step fails and ends the check. With --no_gpu, what is left runs on the CPU; --quick makes it
short, to try the check itself: python -m run.gpu_check --no_gpu --quick.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import pathlib
import shutil
import sys
import threading
import time
from typing import Any

from absl import flags

import impala_tf
from impala_tf import flags as impala_flags
from impala_tf.errors import UserError
from impala_tf.machine import description
from impala_tf.processes import command as processes
from impala_tf.processes.signals import stop_on_signal

from . import command
from .gpu_steps import STEPS, Check, Step

_LOGGER = logging.getLogger("impala_tf.run")
_LOOK_SECONDS = 0.1
_END_SECONDS = 12.0  # A run has 10 to save and end.
_SUMMARY = "summary.json"


class _Failed(Exception):
    """Says why a step failed."""


def _chosen() -> list[str]:
    """Returns the names of the steps to take, in order."""
    given = [name.strip() for name in flags.FLAGS.steps.split(",") if name.strip()]
    if unknown := [name for name in given if name not in STEPS]:
        raise UserError(f"--steps: there is no step {unknown[0]!r}; there are {', '.join(STEPS)}.")
    # Whether there is a GPU, and which, belongs to every result.
    needed = set(given) | (set() if flags.FLAGS.no_gpu else {"machine"})
    return [name for name in STEPS if not given or name in needed]


def _folder() -> pathlib.Path:
    """Returns the folder of the check, which exists; its earlier results will be replaced."""
    folder = pathlib.Path(flags.FLAGS.output).absolute()
    try:
        if folder.exists() and os.listdir(folder) and not (folder / _SUMMARY).exists():
            raise UserError(f"--output={folder} holds other files: give another folder.")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output={folder} cannot be written: {error.strerror}.") from None
    return folder


def _environment() -> dict[str, str]:
    """Sets the variables of the steps' processes; returns what was set."""
    # The driver keeps the kernels that it compiles for a GPU newer than TensorFlow, but by default less than there are:
    # each process would compile some again.
    chosen = {"CUDA_CACHE_MAXSIZE": str(4 * 2**30)}
    if flags.FLAGS.no_gpu:
        chosen["CUDA_VISIBLE_DEVICES"] = "-1"
        os.environ.update(chosen)
    return {name: os.environ.setdefault(name, value) for name, value in chosen.items()}


def _run(line: list[str], output: pathlib.Path, deadline: float, stop: threading.Event) -> None:
    """Runs a program to its end; raises `_Failed` if it fails, or does not end by the deadline or before a signal."""
    with open(output, "a") as file:
        file.write(f"$ {' '.join(line)}\n")
    program = processes.Command(line, output)
    try:
        while program.status is None:
            if stop.wait(_LOOK_SECONDS):
                raise _Failed("interrupted")
            if time.monotonic() > deadline:
                raise _Failed("it was not done in time")
        if program.status:
            raise _Failed(program.error())
    finally:
        program.end(_END_SECONDS)


def _take(step: Step, check: Check, name: str, end: float, stop: threading.Event) -> dict[str, Any]:
    """Takes a step; returns its part of the summary."""
    here = check.folder(name)
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir()
    start, limit = time.monotonic(), flags.FLAGS.limit or step.seconds
    result: dict[str, Any] = {"result": "passed", "output": f"{name}/output.txt"}
    try:
        if reason := step.missing(check):
            result |= {"result": "skipped", "why": reason}
        elif start > end:
            raise _Failed(f"it was not begun within --minutes={flags.FLAGS.minutes:g}")
        else:
            for line in step.lines(check, here):
                _run(line, here / "output.txt", min(start + limit, end), stop)
            result["numbers"] = step.numbers(check, here)
    except (_Failed, UserError) as error:
        result |= {"result": "failed", "why": str(error)}
    except (OSError, ValueError, LookupError) as error:  # What the step should have left is missing or damaged.
        result |= {"result": "failed", "why": f"its results cannot be read: {error!r}"}
    return {**result, "seconds": round(time.monotonic() - start, 1)}


def _main() -> int:
    names, folder = _chosen(), _folder()
    check = Check(folder, not flags.FLAGS.no_gpu, flags.FLAGS.quick)
    stop, received = stop_on_signal()
    summary: dict[str, Any] = {
        "command": [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]],
        "version": impala_tf.__version__,
        "machine": description(),
        "on_gpu": check.gpu,
        "quick": check.quick,
        "environment": _environment(),
        "steps": {},
    }
    if not check.gpu:
        _LOGGER.info("--no_gpu: on the CPU; this says nothing about GPUs")
    end = time.monotonic() + 60 * flags.FLAGS.minutes
    results = summary["steps"]
    for number, name in enumerate(names, 1):
        _LOGGER.info("%d of %d, %s: %s", number, len(names), name, STEPS[name].about)
        results[name] = found = _take(STEPS[name], check, name, end, stop)
        why = f": {found['why']}" if "why" in found else ""
        _LOGGER.info("  %s after %.1f s%s", found["result"], found["seconds"], why)
        (folder / _SUMMARY).write_text(json.dumps(summary, indent=1) + "\n")
        if received:
            return 128 + received[0]
        if name == "machine" and check.gpu and found["result"] == "failed":
            break  # The other steps would measure the CPU, or fail for the same reason.
    count = {
        kind: sum(found["result"] == kind for found in results.values()) for kind in ("passed", "failed", "skipped")
    }
    _LOGGER.info("%s; %s", ", ".join(f"{number} {kind}" for kind, number in count.items()), folder / _SUMMARY)
    return int(count["failed"] > 0)


def main() -> None:
    """Entry point of `python -m run.gpu_check`."""
    define = functools.partial(impala_flags.define_own, "The check")
    listed = "\n".join(f"  {name:<25} {step.about}" for name, step in STEPS.items())
    define("output", "gpu_check", "Folder for the results; those of an earlier check are replaced.", path=True)
    define("steps", "", f"Steps to take, separated by commas; empty: all. They are:\n{listed}")
    define("no_gpu", False, "Do not use a GPU.")
    define("quick", False, "Tiny sizes: tries the check itself; the numbers mean nothing.")
    define("limit", 0.0, "Seconds that a step may take; 0: each step's own limit.", at_least=0)
    define("minutes", 30.0, "Minutes for all; steps that do not begin in time fail.", at_least=0.01)
    command.run(_main, __doc__)


if __name__ == "__main__":
    main()

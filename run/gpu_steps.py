"""The steps of `run.gpu_check`: what each one runs, how long it may take, and which numbers it leaves."""

from __future__ import annotations

import csv
import importlib.util
import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple
from xml.etree import ElementTree

from impala_tf.errors import UserError

_TESTS = pathlib.Path(__file__).resolve().parents[1] / "tests" / "networks" / "test_lstm.py"
_COMPILED = "compiling the learner with XLA"
_CATCH_RETURN = 0.5  # A random player's is about -0.6, the best 1.
_CLOSE = 1e-3


class Check(NamedTuple):
    """What all steps share.

    Attributes:
      output: the folder of the check, an absolute path.
      gpu: whether a GPU must be used.
      quick: whether sizes are tiny.
    """

    output: pathlib.Path
    gpu: bool
    quick: bool

    def folder(self, step: str) -> pathlib.Path:
        """Returns the folder of a step."""
        return self.output / step


def _nothing(check: Check) -> str:
    return ""


class Step(NamedTuple):
    """A step of the check.

    Attributes:
      about: what it tries, for people.
      seconds: its time limit.
      lines: the programs to run, one after the other, given the check and the step's folder.
      numbers: reads what they left, JSON-able; raises UserError if it is wrong.
      missing: returns why the step cannot be taken here, or "".
    """

    about: str
    seconds: float
    lines: Callable[[Check, pathlib.Path], list[list[str]]]
    numbers: Callable[[Check, pathlib.Path], Any]
    missing: Callable[[Check], str] = _nothing


def _python(module: str, *arguments: str) -> list[str]:
    """A program of this folder, whether it is called run or impala_tf.run."""
    return [sys.executable, "-m", f"{__package__}.{module}", *arguments]


def _json(path: pathlib.Path) -> Any:
    return json.loads(path.read_text())


def _machine_lines(check: Check, here: pathlib.Path) -> list[list[str]]:
    need = ["--need_gpu"] if check.gpu else []
    return [_python("gpu_probe", "--what=machine", f"--output={here / 'machine.json'}", *need)]


def _test_lines(check: Check, here: pathlib.Path) -> list[list[str]]:
    line = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-k", "cudnn_equals_the_loop"]
    return [[*line, f"--junitxml={here / 'tests.xml'}", str(_TESTS)]]


def _test_numbers(check: Check, here: pathlib.Path) -> dict[str, int]:
    suite = next(ElementTree.parse(here / "tests.xml").iter("testsuite"))
    found = {name: int(suite.attrib[name]) for name in ("tests", "skipped", "failures", "errors")}
    if check.gpu and (found["skipped"] or not found["tests"]):
        raise UserError(f"{found['skipped']} of {found['tests']} tests were skipped: the test sees no GPU.")
    return found


def _lstm_lines(check: Check, here: pathlib.Path) -> list[list[str]]:
    repeats = ["--repeats=1"] if check.quick else ["--repeats=30"]
    lengths = (3,) if check.quick else (20, 100)
    return [
        _python("lstm_benchmark", f"--unroll_length={length}", f"--output={here / f'{length}.json'}", *repeats)
        for length in lengths
    ]


def _all_json(check: Check, here: pathlib.Path) -> dict[str, Any]:
    return {path.stem: _json(path) for path in sorted(here.glob("*.json"))}


def _benchmark(about: str, *arguments: str) -> Step:
    def lines(check: Check, here: pathlib.Path) -> list[list[str]]:
        size = ["--seconds=5"]
        if check.quick:
            size = ["--seconds=0.3", "--num_actors=1", "--envs_per_actor=2", "--batch_size=2", "--unroll_length=5"]
        output = f"--output={here / 'benchmark.json'}"
        return [_python("benchmark", "--env=atari/breakout", "--repeats=1", *size, *arguments, output)]

    def numbers(check: Check, here: pathlib.Path) -> Any:
        found = _json(here / "benchmark.json")
        if check.gpu and found["device"] == "CPU":
            raise UserError("The learner ran on the CPU.")
        return found

    return Step(f"impala-benchmark, {about}", 240, lines, numbers)


def _training(about: str, seconds: float, quick_frames: int, *arguments: str, **more: Any) -> Step:
    """A run with its usual number of frames; with a mean return that it must reach, if one is given."""
    least = more.pop("least_return", None)

    def lines(check: Check, here: pathlib.Path) -> list[list[str]]:
        frames = [f"--total_frames={quick_frames}"] if check.quick else []
        return [_python("train", *arguments, f"--logdir={here / 'run'}", *frames)]

    def numbers(check: Check, here: pathlib.Path) -> dict[str, float]:
        if check.gpu and _COMPILED not in (here / "output.txt").read_text():
            raise UserError("The learner was not compiled with XLA, as it is on a GPU.")
        with open(here / "run" / "progress.csv", newline="") as file:
            *_, row = csv.DictReader(file)
        wanted = ("seconds", "frames", "fps_run", "mean_return_100", "policy_lag_mean", "learner_waiting", "total_loss")
        found = {name: float(row[name]) for name in wanted}
        if least is not None and not check.quick and not found["mean_return_100"] >= least:
            raise UserError(f"The mean return is {found['mean_return_100']:.2f}; it should have reached {least}.")
        return found

    return Step(f"impala-train, {about}", seconds, lines, numbers, **more)


def _export_lines(check: Check, here: pathlib.Path) -> list[list[str]]:
    run, model = f"--logdir={here / 'run'}", here / "model"
    frames = 2_000 if check.quick else 50_000
    probe = ["--what=model", f"--saved_model={model}"]
    result = f"--output={here / 'evaluation.json'}"
    return [
        _python("train", "--setup=catch", "--core=lstm", f"--total_frames={frames}", run),
        _python("train", f"--total_frames={2 * frames}", run),
        _python("export", run, f"--output={model}"),
        _python("gpu_probe", *probe, "--hide_gpu", f"--output={here / 'cpu.json'}"),
        _python("gpu_probe", *probe, f"--output={here / 'gpu.json'}", *(["--need_gpu"] if check.gpu else [])),
        _python("evaluate", f"--saved_model={model}", "--episodes=20", result),
    ]


def _export_numbers(check: Check, here: pathlib.Path) -> dict[str, Any]:
    reference, found = _json(here / "cpu.json"), _json(here / "gpu.json")
    rows = zip(found["logits"], reference["logits"], strict=True)
    differences = [abs(a - b) for one, other in rows for a, b in zip(one, other, strict=True)]
    if wrong := [difference for difference in differences if not difference <= _CLOSE]:  # NaN is wrong, too.
        raise UserError(f"{len(wrong)} of {len(differences)} logits differ from the CPU's, the first by {wrong[0]:g}.")
    if "resuming" not in (here / "output.txt").read_text():
        raise UserError("The second start did not resume the run.")
    mean = [task["mean"] for task in _json(here / "evaluation.json")["tasks"].values()]
    times = {f"{name}_ms_per_step": one["ms_per_step"] for name, one in (("cpu", reference), ("this", found))}
    return {"largest_difference": max(differences), **times, "gpu_bytes": found["gpu_bytes"], "mean_return": mean[0]}


def _no_tests(check: Check) -> str:
    return "" if _TESTS.exists() else "the tests are not here; run it at the top of the repository"


def _no_minigrid(check: Check) -> str:
    return "" if importlib.util.find_spec("minigrid") else "minigrid is not installed"


def _no_two_gpus(check: Check) -> str:
    if not check.gpu:
        return "it needs two GPUs"
    gpus = len(_json(check.folder("machine") / "machine.json")["gpus"])
    return "" if gpus >= 2 else f"it needs two GPUs, and there is {gpus}"


_LSTM = ("--torso=deep", "--core=lstm")
STEPS = {
    "machine": Step("versions, the GPU, first calls", 900, _machine_lines, _all_json),
    "lstm_tests": Step("cuDNN's LSTM against the loop (tests)", 300, _test_lines, _test_numbers, _no_tests),
    "train_catch": _training("Catch", 240, 5_000, "--setup=catch", least_return=_CATCH_RETURN),
    "export": Step("resuming, export; the SavedModel on GPU and CPU", 300, _export_lines, _export_numbers),
    "lstm_times": Step("the LSTM core, packed and loop", 240, _lstm_lines, _all_json),
    "shallow_xla": _benchmark("shallow, XLA", "--torso=shallow", "--xla=on"),
    "shallow_no_xla": _benchmark("shallow, no XLA", "--torso=shallow", "--xla=off"),
    "deep_xla": _benchmark("deep, XLA", "--torso=deep", "--xla=on"),
    "deep_no_xla": _benchmark("deep, no XLA", "--torso=deep", "--xla=off"),
    "deep_bfloat16": _benchmark("deep, bfloat16", "--torso=deep", "--precision=bfloat16"),
    "deep_lstm_packed": _benchmark("deep, LSTM packed", *_LSTM, "--lstm_kernel=packed"),
    "deep_lstm_loop": _benchmark("deep, LSTM loop", *_LSTM, "--lstm_kernel=loop"),
    "deep_lstm_central": _benchmark("deep, LSTM, central inference", *_LSTM, "--inference=central"),
    "train_krull": _training("Atari Krull", 420, 5_000, "--env=atari/krull", "--total_frames=1.5e6"),
    "train_instructions": _training(
        *("BabyAI's GoToLocal, LSTM and instructions", 240, 2_000, "--setup=minigrid", "--total_frames=200000"),
        "--env=minigrid/BabyAI-GoToLocalS5N2-v0",
        missing=_no_minigrid,
    ),
    "train_two_learners": _training(
        *("two learners (NCCL)", 240, 5_000, "--setup=catch", "--num_learners=2", "--batch_size=16"),
        missing=_no_two_gpus,
    ),
}
"""All steps by name, in their order: what fails first explains what fails later."""

"""The page that a run leaves about what it has trained: how, with what result, and what can be done with it."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import pathlib
import platform
import shlex
from collections.abc import Sequence
from typing import Any

import impala_tf
from impala_tf import config as config_lib
from impala_tf import suites
from impala_tf.suites import tasks
from impala_tf.records import csv_file
from impala_tf import topology as layout
from impala_tf.records.logdir import LogDir, replacing, saved

# They say where a process ran, not what was trained; --logdir is named by itself.
_OF_ONE_PROCESS = ("logdir", "role", "address", "port", "actor_id")
_WINDOW = 100
_NONE = "none"


def write(logdir: LogDir) -> bool:
    """Writes the card from the run's settings, CSV files and newest checkpoint; imports no TensorFlow.

    Args:
      logdir: of the run; the page becomes its `model_card`.

    Returns:
      False, and nothing is written, if nothing had been logged yet.

    Raises:
      OSError: it cannot be written; an earlier card is untouched.
    """
    run = csv_file.read(logdir.progress)
    if run is None:
        return False
    settings = {setting.name: setting.default for _, setting in config_lib.settings()}
    settings.update(json.loads(logdir.config.read_text()))
    parts = [
        _heading(settings, logdir),
        _results(settings, logdir, run),
        _training(settings, logdir),
        _meaning(settings),
        _limits(settings, run),
        _next(settings, logdir, run),
    ]
    with replacing(logdir.model_card) as partial:
        partial.write_text("\n\n".join(parts) + "\n")
    return True


def _heading(settings: dict[str, Any], logdir: LogDir) -> str:
    names = tasks.names(settings["env"])
    what = f"the environment `{names[0]}`" if len(names) == 1 else f"{len(names)} tasks, which one network has learnt"
    lines = [
        f"# {settings['env']}, IMPALA, seed {settings['seed']}",
        f"Policy and value function for {what}, trained with IMPALA (Espeholt et al., 2018) by impala_tf.",
    ]
    if logdir.curve.exists():
        lines.append(f"![Learning curve]({logdir.curve.name})")
    return "\n\n".join(lines)


def _results(settings: dict[str, Any], logdir: LogDir, run: Any) -> str:
    names, last = tasks.names(settings["env"]), run.iloc[-1]
    state = _state(logdir.checkpoints)
    of_all: list[tuple[Any, ...]] = [("environment frames", f"{int(last['frames']):,}")]
    if "learner_step" in state:
        of_all.append(("learner steps", f"{state['learner_step']:,}"))
    of_all.append(("episodes", f"{int(last['episodes']):,}"))
    if len(names) == 1:
        mean, best, score = _returns(names[0], run)
        window = min(_WINDOW, int(last["episodes"]))
        of_all += [(f"mean return of the last {window} episodes", mean), ("its best in the run", best)]
        if score != _NONE:
            of_all.append(("human normalised", score))
    for what in ("median", "mean", "mean_capped"):
        if not math.isnan(score := last.get(f"human_normalised_{what}", math.nan)):
            of_all.append((f"human normalised, {what.replace('_', ' ')} over the tasks", f"{score:.1%}"))
    of_all.append(("wall-clock time", f"{last['seconds'] / 3600:.2f} hours"))
    of_all.append(("mean speed", f"{last['frames'] / max(last['seconds'], 1e-9):,.0f} frames/s"))
    parts = ["## Results", _table(("", ""), of_all)]

    by_task = csv_file.read(logdir.tasks)
    if by_task is not None:
        rows = []
        for name in names:
            its = by_task[by_task["task"] == name]
            if len(its):
                counts = (f"{int(its[column].iloc[-1]):,}" for column in ("task_frames", "episodes"))
                rows.append((name, *counts, *_returns(name, its)))
        header = ("task", "frames", "episodes", f"mean return, last {_WINDOW}", "its best", "human normalised")
        parts.append(_table(header, rows))

    evaluations = csv_file.read(logdir.evaluations)
    if evaluations is not None:
        frames = int(evaluations["frames"].iloc[-1])
        newest = evaluations[evaluations["frames"] == frames].drop_duplicates("task", keep="last")
        rows = [
            (
                row["task"],
                f"{int(row['episodes']):,}",
                _number(row["mean"]),
                f"{_number(row['ci_low'])} to {_number(row['ci_high'])}",
                _number(row["median"]),
                _percent(row["human_normalised"]),
            )
            for _, row in newest.iterrows()
        ]
        header = ("task", "episodes", "mean return", "95% confidence interval", "median return", "human normalised")
        parts += [f"The newest evaluation, of the policy at {frames:,} frames:", _table(header, rows)]
    return "\n\n".join(parts)


def _returns(name: str, rows: Any) -> tuple[str, str, str]:
    """A task's last mean return, its best one, and the human normalised score of the last."""
    rows = rows[rows["mean_return_100"].notna()]
    if not len(rows):
        return (_NONE,) * 3
    last = float(rows["mean_return_100"].iloc[-1])
    full = rows[rows["episodes"] >= _WINDOW]  # The mean of a few early games is mostly luck.
    best = (full if len(full) else rows).sort_values("mean_return_100", kind="stable").iloc[-1]
    score = suites.human_normalised(name, last)
    best_text = f"{_number(best['mean_return_100'])} at {int(best['frames']):,} frames"
    return _number(last), best_text, _NONE if score is None else _percent(score)


def _training(settings: dict[str, Any], logdir: LogDir) -> str:
    state = _state(logdir.checkpoints)
    torso = "auto (shallow for images, mlp for everything else)" if settings["torso"] == "auto" else settings["torso"]
    rows = [("torso", torso), ("core", settings["core"]), ("precision of the torso", settings["precision"])]
    if "parameters" in state:
        rows.append(("parameters", f"{state['parameters']:,}"))
    rows += [("seed", settings["seed"]), ("machine that this was written on", _machine()), ("versions", _versions())]
    said = "The settings that are not the defaults (`config.json` has all):"
    return "\n\n".join(["## Training", _table(("", ""), rows), said, _shell(_command(settings, logdir))])


def _meaning(settings: dict[str, Any]) -> str:
    names = tasks.names(settings["env"])
    lines = [
        "*Frames* are environment frames: agent steps times the action repeat.",
        "*Returns* are undiscounted sums of unclipped rewards over full games, however training cuts them into "
        "episodes.",
        "The returns of training are those of the policy as it learns: its actions are sampled, and its parameters "
        "are some learner steps older than the newest. The best one is the highest of many noisy means.",
        "*Wall-clock time* is that of the learner over all starts of the run, from the moment that its logs are open.",
    ]
    if len(names) > 1:
        lines.append("The curve of each task is drawn against the frames of all tasks together.")
    for suite in suites.SUITES:
        if set(names) & {*suites.tasks(suite), *suites.tasks(suite, test=True)}:
            lines.append(
                "*Human normalised*: 0% is a random player's score and 100% a human's, by the reference scores "
                f"{suites.references(suite)[0]!r} of `impala_tf/suites/{suite}.json`."
            )
    return "## What the numbers mean\n\n" + _list(lines)


def _limits(settings: dict[str, Any], run: Any) -> str:
    last = run.iloc[-1]
    lines = ["This is one run with one seed; another seed may learn faster, slower, or something else."]
    if last["frames"] < settings["total_frames"]:
        lines.append(
            f"It ended at {last['frames'] / settings['total_frames']:.0%} of its {settings['total_frames']:,} frames, "
            f"with the learning rate at {last['learning_rate']:.2g} of {settings['learning_rate']:.2g}."
        )
    lines.append(
        "The policy was trained and measured in the simulation that `--env` names, with the settings above. What it "
        "does elsewhere, or with other settings of the same environment, has not been measured."
    )
    if len(tasks.names(settings["env"])) > 1:
        lines.append("The network is not told which task it plays, and knows none but these.")
    return "## Limits\n\n" + _list(lines)


def _next(settings: dict[str, Any], logdir: LogDir, run: Any) -> str:
    more = settings
    if run["frames"].iloc[-1] >= settings["total_frames"]:
        more = {**settings, "total_frames": 2 * settings["total_frames"]}
    model, output = logdir.path / "saved_model", logdir.path / "evaluation.json"
    commands = (
        _command(more, logdir),
        ["impala-export", f"--logdir={logdir.path}", f"--output={model}"],
        [
            "impala-evaluate",
            f"--saved_model={model}",
            f"--env={settings['env']}",
            "--episodes=200",
            f"--output={output}",
        ],
    )
    what = "Train on, from the newest checkpoint; export the policy as a SavedModel; evaluate that:"
    return f"## To go on\n\n{what}\n\n{_shell(*commands)}"


def _command(settings: dict[str, Any], logdir: LogDir) -> list[str]:
    """impala-train with all settings that are not the defaults."""
    flags = [f"--env={settings['env']}"]
    for _, setting in config_lib.settings():
        name, value = setting.name, settings[setting.name]
        if name in ("env", *_OF_ONE_PROCESS) or value == setting.default:
            continue
        flags.append(f"--{'' if value else 'no'}{name}" if isinstance(value, bool) else f"--{name}={value}")
    return ["impala-train", *flags, f"--logdir={logdir.path}"]


def _state(checkpoints: pathlib.Path) -> dict[str, Any]:
    """What the newest checkpoint keeps besides its variables."""
    newest = saved(checkpoints)[:1]
    return json.loads((newest[0] / "state.json").read_text()) if newest else {}


def _machine() -> str:
    """Processor, cores that may be used, and memory."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = named[0] if named else platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{processor}, {layout.cores()} cores, {memory:.0f} GiB"


def _versions() -> str:
    found = [f"impala_tf {impala_tf.__version__}", f"Python {platform.python_version()}"]
    for name in ("tensorflow", "tensorflow-cpu", "dm-reverb", "ale-py"):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def _number(value: float) -> str:
    return _NONE if math.isnan(value) else f"{value:,.2f}"


def _percent(share: float) -> str:
    return _NONE if math.isnan(share) else f"{share:.1%}"


def _table(header: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _shell(*commands: Sequence[str]) -> str:
    return "\n".join(["```sh", *(shlex.join(command) for command in commands), "```"])

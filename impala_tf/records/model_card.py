"""The model card of a run: what was trained, how, with what results, and what to do next."""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

from impala_tf import config as config_lib
from impala_tf import machine, programs, suites
from impala_tf.files import replacing
from impala_tf.records import csv_file, provenance
from impala_tf.records.logdir import OF_ONE_PROCESS, LogDir, saved
from impala_tf.suites import tasks

_WINDOW = 100
_NONE = "none"


def write(logdir: LogDir) -> bool:
    """Writes the card from the run's settings, CSV files and newest checkpoint, without importing TensorFlow.

    Args:
      logdir: folder of the run; the card is written to `logdir.model_card`.

    Returns:
      False if nothing has been logged yet; nothing is written then.

    Raises:
      UserError: config.json is missing or damaged, or a CSV file is damaged; names the line.
      OSError: the card cannot be written; an earlier card is untouched.
    """
    run = csv_file.read(logdir.progress)
    if run is None:
        return False
    settings = {setting.name: setting.default for _, setting in config_lib.settings()}
    settings.update(logdir.read_settings())
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


_ALGORITHMS = {
    "impala": ("IMPALA", "IMPALA (Espeholt et al., 2018)"),
    "batched_a2c_sync_step": ("batched A2C", "batched A2C (Espeholt et al., 2018, Figure 2)"),
    "batched_a2c_sync_trajectory": ("batched A2C", "batched A2C (Espeholt et al., 2018, Figure 2)"),
    "a3c": ("A3C", "A3C (Mnih et al., 2016)"),
}
"""Short and full name of what each --architecture trains with."""


def _heading(settings: dict[str, Any], logdir: LogDir) -> str:
    short, full = _ALGORITHMS[settings["architecture"]]
    names = tasks.names(settings["env"])
    what = f"the environment `{names[0]}`" if len(names) == 1 else f"{len(names)} tasks, learned by one network"
    lines = [
        f"# {settings['env']}, {short}, seed {settings['seed']}",
        f"Policy and value function for {what}, trained with {full} by impala_tf.",
    ]
    if logdir.curve.exists():
        lines.append(f"![Learning curve]({logdir.curve.name})")
    return "\n\n".join(lines)


def _results(settings: dict[str, Any], logdir: LogDir, run: Any) -> str:
    names, last = tasks.names(settings["env"]), run.iloc[-1]
    state = _state(logdir.checkpoints)
    overall: list[tuple[Any, ...]] = [("environment frames", f"{int(last['frames']):,}")]
    if "learner_step" in state:
        overall.append(("learner steps", f"{state['learner_step']:,}"))
    for what, folder in (("checkpoint", logdir.checkpoints), ("SavedModel", logdir.exports)):
        for path in saved(folder)[:1]:
            overall.append((f"newest {what}", f"`{path.relative_to(logdir.path)}`, at {int(path.name):,} frames"))
    overall.append(("episodes", f"{int(last['episodes']):,}"))
    if len(names) == 1:
        mean, best, score = _returns(names[0], run)
        window = min(_WINDOW, int(last["episodes"]))
        overall += [(f"mean return of the last {window} episodes", mean), ("best mean return in the run", best)]
        if score != _NONE:
            overall.append(("human-normalized score", score))
    for what in ("median", "mean", "mean_capped"):
        if not math.isnan(score := last.get(f"human_normalised_{what}", math.nan)):
            overall.append((f"human-normalized score, {what.replace('_', ' ')} over the tasks", f"{score:.1%}"))
    overall.append(("wall-clock time", f"{last['seconds'] / 3600:.2f} hours"))
    overall.append(("mean speed", f"{last['frames'] / max(last['seconds'], 1e-9):,.0f} frames/s"))
    parts = ["## Results", _table(("", ""), overall)]

    by_task = csv_file.read(logdir.tasks)
    if by_task is not None:
        rows = []
        for name in names:
            task_rows = by_task[by_task["task"] == name]
            if len(task_rows):
                counts = (f"{int(task_rows[column].iloc[-1]):,}" for column in ("task_frames", "episodes"))
                rows.append((name, *counts, *_returns(name, task_rows)))
        header = (
            "task",
            "frames",
            "episodes",
            f"mean return, last {_WINDOW}",
            "best mean return",
            "human-normalized score",
        )
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
        header = (
            "task",
            "episodes",
            "mean return",
            "95% confidence interval",
            "median return",
            "human-normalized score",
        )
        parts += [f"The newest evaluation is of the policy at {frames:,} frames:", _table(header, rows)]
    return "\n\n".join(parts)


def _returns(name: str, rows: Any) -> tuple[str, str, str]:
    """Returns a task's last mean return, its best one and the human-normalized score of the last one, as text."""
    rows = rows[rows["mean_return_100"].notna()]
    if not len(rows):
        return (_NONE,) * 3
    last = float(rows["mean_return_100"].iloc[-1])
    full = rows[rows["episodes"] >= _WINDOW]  # A mean over a few early games is mostly noise.
    best = (full if len(full) else rows).sort_values("mean_return_100", kind="stable").iloc[-1]
    score = suites.human_normalised(name, last)
    best_text = f"{_number(best['mean_return_100'])} at {int(best['frames']):,} frames"
    return _number(last), best_text, _NONE if score is None else _percent(score)


def _training(settings: dict[str, Any], logdir: LogDir) -> str:
    state = _state(logdir.checkpoints)
    torso = settings["torso"]
    if torso == "auto":
        torso = "auto (shallow for images of at least 36 x 36 pixels, mlp for everything else)"
    rows = [("torso", torso), ("core", settings["core"]), ("precision of the torso", settings["precision"])]
    if "parameters" in state:
        rows.append(("parameters", f"{state['parameters']:,}"))
    rows.append(("seed", settings["seed"]))
    if changes := logdir.read_tuned():
        rows.append(("changed by a population", f"{len(changes)} times: `config.json`, under tuned"))
    started = logdir.read_started()
    if "time" in started:
        rows += [("last start", started["time"]), ("its command", "`" + started["command"].replace("|", "\\|") + "`")]
    if "machine" in started:
        rows.append(("machine of the learner", started["machine"]))
    else:
        rows.append(("machine that wrote this card", machine.description()))
    versions = started.get("versions") or provenance.versions()
    rows.append(("versions", ", ".join(f"{name} {version}" for name, version in versions.items())))
    if started.get("commit"):
        rows.append(("git commit", started["commit"]))
    intro = "Settings that differ from the defaults (`config.json` has all of them):"
    return "\n\n".join(["## Training", _table(("", ""), rows), intro, _shell(_command(settings, logdir))])


def _meaning(settings: dict[str, Any]) -> str:
    names = tasks.names(settings["env"])
    lines = [
        "*Frames* are environment frames: agent steps times the action repeat.",
        "*Returns* are undiscounted sums of unclipped rewards over full games, even if training splits games into "
        "several episodes.",
        "Training returns are those of the policy while it learns: its actions are sampled, and its parameters lag the "
        "newest ones by some learner steps. The best mean return is the highest of many noisy means.",
        "*Wall-clock time* is the learner's, summed over all starts of the run and measured from opening its logs.",
    ]
    if len(names) > 1:
        lines.append("The learning curve of each task is drawn against the frames of all tasks together.")
    for suite in suites.SUITES:
        if set(names) & {*suites.env_ids(suite), *suites.env_ids(suite, test=True)}:
            lines.append(
                "*Human-normalized scores* are 0% for a random player and 100% for a human, with the reference scores "
                f"{suites.references(suite)[0]!r} of `impala_tf/suites/{suite}.json`."
            )
    return "## What the numbers mean\n\n" + _list(lines)


def _limits(settings: dict[str, Any], run: Any) -> str:
    last = run.iloc[-1]
    lines = ["This is a single run with a single seed; other seeds may give different results."]
    if last["frames"] < settings["total_frames"]:
        lines.append(
            f"It ended at {last['frames'] / settings['total_frames']:.0%} of its {settings['total_frames']:,} frames, "
            f"with the learning rate at {last['learning_rate']:.2g} of {settings['learning_rate']:.2g}."
        )
    lines.append(
        "The policy was trained and measured only in the simulation named by `--env`, with the settings above. Its "
        "behavior elsewhere, or with other settings of the same environment, has not been measured."
    )
    if len(tasks.names(settings["env"])) > 1:
        lines.append("The network is not told which task it plays, and it was trained on these tasks only.")
    return "## Limits\n\n" + _list(lines)


def _next(settings: dict[str, Any], logdir: LogDir, run: Any) -> str:
    more = settings
    if run["frames"].iloc[-1] >= settings["total_frames"]:
        more = {**settings, "total_frames": 2 * int(run["frames"].iloc[-1])}
    commands = (
        _command(more, logdir),
        ["impala-evaluate", f"--logdir={logdir.path}", "--random_policy", "--video"],
        ["impala-export", f"--logdir={logdir.path}", f"--output={logdir.path / 'saved_model'}"],
    )
    what = "Resume training from the newest checkpoint, evaluate and film the agent, and export it as a SavedModel:"
    return f"## Next steps\n\n{what}\n\n{_shell(*commands)}"


def _command(settings: dict[str, Any], logdir: LogDir) -> list[str]:
    """Returns an impala-train command with all settings that differ from the defaults."""
    flags = [f"--env={settings['env']}"]
    for _, setting in config_lib.settings():
        name, value = setting.name, settings[setting.name]
        if name in ("env", *OF_ONE_PROCESS) or value == setting.default:
            continue
        flags.append(f"--{'' if value else 'no'}{name}" if isinstance(value, bool) else f"--{name}={value}")
    return ["impala-train", *flags, f"--logdir={logdir.path}"]


def _state(checkpoints: pathlib.Path) -> dict[str, Any]:
    """Returns the state saved with the newest checkpoint; {} if there is none."""
    newest = saved(checkpoints)[:1]
    return json.loads((newest[0] / "state.json").read_text()) if newest else {}


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
    return "\n".join(["```sh", *(programs.line(*command) for command in commands), "```"])

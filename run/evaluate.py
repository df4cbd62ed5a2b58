"""Evaluates an agent: `impala-evaluate --logdir=runs/pong`, or `python -m run.evaluate` with the same flags.

With --logdir, it is the newest checkpoint of a run, and the results are in the run's folder; with --saved_model, any
SavedModel that impala-export wrote. Follows the paper's protocols: 200 full games for Atari, each starting with 1 to 30
no-ops; 500 episodes on each of the 30 test levels for DMLab-30. If interrupted, it says how to resume.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import pathlib
import re
import sys
from typing import NamedTuple

from absl import flags

from impala_tf import flags as impala_flags
from impala_tf import programs, quiet
from impala_tf.errors import UserError
from impala_tf.evaluation.protocols import MACHINE_OPTIONS
from impala_tf.export import of_run, saved_model
from impala_tf.processes import imports
from impala_tf.records.logdir import LogDir

from . import command
from .ending import Ending

# What takes long to import is imported later, when signals are handled and the settings have been checked.

_say = logging.getLogger("impala_tf.run").info


class _Paths(NamedTuple):
    """Where things are.

    Attributes:
      output: the result's file.
      video: the film's file; None: no film.
      log: gets what native code, such as engines, writes to standard error.
      curve: the run's learning curve; None if there is none.
    """

    output: pathlib.Path
    video: pathlib.Path | None
    log: pathlib.Path
    curve: pathlib.Path | None


def _main() -> int:
    ending = Ending(".")
    _check_flags()
    model, paths = _prepare(ending)
    _redirect(paths.log)
    ending.clean_up = functools.partial(_remove_if_empty, paths.log)
    try:
        return _evaluate(ending, model, paths)
    except saved_model.Damaged:
        if not flags.FLAGS.logdir:
            raise
        of_run.set_aside(model)
        # There may be a newer checkpoint by now. The log has been opened, and stays where it is.
        model, newer = _prepare(ending)
        return _evaluate(ending, model, newer._replace(log=paths.log))
    finally:
        _remove_if_empty(paths.log)


def _evaluate(ending: Ending, model: pathlib.Path, paths: _Paths) -> int:
    from impala_tf.evaluation import evaluate, report

    values = flags.FLAGS
    again = _again(model, paths.output)
    ending.line = f"; finished episodes are kept. To resume: {again}"
    own = ("env", "episodes", "greedy", "seed", "random_policy", "num_envs")
    evaluation = evaluate.Evaluation(
        str(model),
        str(paths.output),
        **{name: values[name].value for name in own},
        video=str(paths.video or ""),
        options={name: values[name].value for name in MACHINE_OPTIONS},
        deadline=values.env_deadline,
        log=str(paths.log),
    )
    found = evaluate.run(evaluation, ending.stopped, ending.begin)
    if found is None:
        ending.exit()
    if not found.get("failed"):
        paths.log.unlink(missing_ok=True)  # Nothing in it matters: everything worked.
    _say("")
    named = (("result", paths.output), ("film", paths.video), ("learning curve", paths.curve))
    for line in report.lines(found, [(what, path) for what, path in named if path]):
        _say(line)
    if failed := found.get("failed"):
        raise UserError(
            f"{len(failed)} of {len(failed) + len(found['tasks'])} tasks failed; the result names them. The engine's "
            f"own output is in {paths.log}. To try them again: {again}"
        )
    return 0


def _again(model: pathlib.Path, output: pathlib.Path) -> str:
    """Returns the command that goes on with this evaluation, even if the run has a newer checkpoint by then."""
    arguments = sys.argv[1:]
    if flags.FLAGS.logdir:
        arguments += ["--logdir=", f"--saved_model={model}", f"--output={output}"]  # The last ones count.
    return programs.line("impala-evaluate", *arguments)


def _check_flags() -> None:
    values = flags.FLAGS
    if bool(values.logdir) == bool(values.saved_model):
        raise UserError(
            "Give either --logdir, the folder of a run (--logdir=runs/pong), or --saved_model, a SavedModel that "
            "impala-export wrote (--saved_model=models/pong)."
        )
    if values.saved_model and not values.output:
        raise UserError("--output is required with --saved_model, for example --output=pong.json.")


def _prepare(ending: Ending) -> tuple[pathlib.Path, _Paths]:
    """Returns the SavedModel, which it exports if need be, and the paths."""
    values = flags.FLAGS
    if values.saved_model:
        output = pathlib.Path(values.output)
        return pathlib.Path(values.saved_model), _paths(output, None)
    logdir = LogDir(values.logdir)
    logdir.read_config()
    model = of_run.find(logdir)
    if model is None:
        _say("importing TensorFlow")
        with imports.quickly():
            import tensorflow  # noqa: F401

        ending.begin()
        model = of_run.make(logdir)
    output = pathlib.Path(values.output or logdir.evaluation / f"{model.name}{_differences()}.json")
    return model, _paths(output, logdir.curve)


def _paths(output: pathlib.Path, curve: pathlib.Path | None) -> _Paths:
    film = output.with_suffix(".mp4") if flags.FLAGS.video else None
    return _Paths(output, film, output.with_suffix(".log"), curve if curve and curve.exists() else None)


def _differences() -> str:
    """Returns the settings that change the result, where they are not the defaults, as part of a file's name."""
    values, parts = flags.FLAGS, []
    if values.episodes:
        parts.append(f"{values.episodes}_episodes")
    if values.greedy:
        parts.append("greedy")
    if values.random_policy:
        parts.append("random_policy")
    if values.seed != flags.FLAGS["seed"].default:
        parts.append(f"seed_{values.seed}")
    if values.env:
        parts.append(re.sub(r"[^\w.+-]", "_", values.env)[:100])
    return "".join(f"-{part}" for part in parts)


def _remove_if_empty(log: pathlib.Path) -> None:
    with contextlib.suppress(OSError):
        if not log.stat().st_size:
            log.unlink()


def _redirect(log: pathlib.Path) -> None:
    """Sends what native code writes to standard error to the log.

    Raises:
      UserError: the log cannot be written.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        quiet.native_stderr(log)
    except OSError as error:
        raise UserError(f"--output: {log.parent} cannot be written: {error.strerror}.") from None


def _define() -> None:
    define = functools.partial(impala_flags.define_own, "The evaluation")
    define("logdir", "", "Folder of a run, which may be in progress: evaluate its newest checkpoint.", path=True)
    define("saved_model", "", "Instead of --logdir: folder of a SavedModel, as written by impala-export.", path=True)
    define(
        "output",
        "",
        "JSON file to write the result to. Empty: with --logdir, in the run's folder evaluation.",
        path=True,
    )
    define("env", "", "As for training: an environment, several, or a suite. Empty: what the agent was trained on.")
    define("episodes", 0, "Episodes per task; 0: 200 for Atari, 500 for DMLab, 100 for all others.", at_least=0)
    define("greedy", False, "Take the most probable action instead of sampling one.")
    define("seed", 1, "Seed from which the episodes' seeds are derived.", at_least=0)
    define("random_policy", False, "Also play the same episodes with random actions, and compare.")
    define(
        "num_envs",
        0,
        "Episodes played at once; 0: 16, or two per core if each environment runs in its own process.",
        at_least=0,
    )
    define("video", False, "Film the first task's first episodes, to an mp4 file next to the result.")
    for name in (*MACHINE_OPTIONS, "env_deadline"):
        impala_flags.define_setting("Where it runs", name)


def main() -> None:
    """Entry point of `impala-evaluate`."""
    _define()
    command.run(_main, __doc__)


if __name__ == "__main__":
    main()

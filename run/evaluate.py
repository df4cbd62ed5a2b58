"""Evaluates a SavedModel: `impala-evaluate --saved_model=models/pong --output=pong.json`, or `python -m run.evaluate`.

Follows the paper's protocols: 200 full games for Atari, each starting with 1 to 30 no-ops; 500 episodes on each of the
30 test levels for DMLab-30. If interrupted, run the same command again to resume.
"""

from __future__ import annotations

import functools
import logging
import os
import pathlib
import signal
import sys

from absl import flags

from impala_tf import flags as impala_flags
from impala_tf import programs, quiet
from impala_tf.errors import UserError
from impala_tf.evaluation.evaluate import MACHINE_OPTIONS

from . import command

_say = logging.getLogger("impala_tf.run").info


def _main() -> int:
    values = flags.FLAGS
    for name, example in (("saved_model", "models/pong"), ("output", "pong.json")):
        if not values[name].value:
            raise UserError(f"--{name} is required, for example --{name}={example}.")
    if pathlib.Path(values.output).exists():
        raise UserError(f"--output={values.output} exists already: give another, or remove it first.")
    quiet.native_stderr(os.devnull)
    from impala_tf.evaluation import evaluate
    from impala_tf.processes.signals import stop_on_signal

    own = ("saved_model", "output", "env", "episodes", "greedy", "seed", "num_envs", "video")
    evaluation = evaluate.Evaluation(
        **{name: values[name].value for name in own},
        options={name: values[name].value for name in MACHINE_OPTIONS},
        deadline=values.env_deadline,
    )
    stop, received = stop_on_signal()
    result = evaluate.run(evaluation, stop.is_set)
    if result is None:
        _say(f"Ended early by {signal.Signals(received[0]).name}; finished episodes are kept.")
        _say(f"To resume: {programs.line('impala-evaluate', *sys.argv[1:])}")
        return 128 + received[0]
    _conclude(result, values.output, values.video)
    return 0


def _conclude(result: dict, output: str, video: str) -> None:
    _say("")
    for name, task in result["tasks"].items():
        low, high = task["mean_ci95"]
        human = "" if task["human_normalised"] is None else f", human-normalized {task['human_normalised']:.1%}"
        played = len(task["episodes"])
        _say(
            f"  {name:<28} mean return {task['mean']:.2f} (95% CI {low:.2f} to {high:.2f}), median {task['median']:.2f}"
            f"{human}; {played} episode{'s' * (played > 1)}, {result['policy']} actions"
        )
    for name, score in result.get("suite", {}).items():
        if isinstance(score, float):
            low, high = result["suite"][f"{name}_ci95"]
            label = name.replace("human_normalised_", "human-normalized ").replace("_", " ")
            _say(f"  {label:<28} {score:.1%} (95% CI {low:.1%} to {high:.1%})")
    _say(f"  result                       {output}")
    if video:
        _say(f"  video                        {video}")


def _define() -> None:
    define = functools.partial(impala_flags.define_own, "The evaluation")
    define("saved_model", "", "Folder of the SavedModel, as written by impala-export.", path=True)
    define("output", "", "JSON file to write the result to; must not exist.", path=True)
    define("env", "", "As for training: an environment, several, or a suite. Empty: what the agent was trained on.")
    define("episodes", 0, "Episodes per task; 0: 200 for Atari, 500 for DMLab, 100 for all others.", at_least=0)
    define("greedy", False, "Take the most probable action instead of sampling one.")
    define("seed", 1, "Seed from which the episodes' seeds are derived.", at_least=0)
    define(
        "num_envs",
        0,
        "Episodes played at once; 0: 16, or two per core if each environment runs in its own process.",
        at_least=0,
    )
    define("video", "", "mp4 file to record the first episode to; must not exist.", path=True)
    for name in (*MACHINE_OPTIONS, "env_deadline"):
        impala_flags.define_setting("Where it runs", name)


def main() -> None:
    """Entry point of `impala-evaluate`."""
    _define()
    command.run(_main, __doc__)


if __name__ == "__main__":
    main()

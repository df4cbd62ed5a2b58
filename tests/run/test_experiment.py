"""impala-experiment, as a command: trains a small experiment, is interrupted, goes on, and shows it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shlex
import signal

import matplotlib.image
import pandas as pd
import pytest
from absl import flags as absl_flags

from impala_tf import config as config_lib
from impala_tf import flags
from impala_tf.experiments import catalogue, report
from impala_tf.records import csv_file
from impala_tf.run import command, setups

EXPERIMENT = ("-m", "run.experiment")
TINY = (
    "-c",
    """
import os
from impala_tf.experiments import catalogue
from impala_tf.experiments.catalogue.grid import Agent, Claim, Experiment, Grid, Task
from impala_tf.run import experiment

task = Task("catch", {"env": "gymnasium/held_catch:HeldCatch-v0", "total_frames": 2_000}, random=-0.6)
agents = tuple(Agent(name, "", f"tiny/{name}", {"correction": name}) for name in ("v_trace", "none"))
repeats = {"seed_1": {"seed": 1}, "long": {"seed": 2, "total_frames": 8_000}}
settings = {
    **{"num_actors": 0, "learner_threads": 1, "unroll_length": 20, "batch_size": int(os.environ.get("BATCH", 4))},
    **{"learning_rate": 0.003, "log_interval": 0.1},
}
grid = Grid(agents, (task,), repeats, settings=settings)
claims = (Claim("V-trace scores higher.", "tiny/v_trace", "tiny/none"),)
catalogue.ALL["tiny"] = Experiment("tiny", "Tiny: two agents", {"machine": grid}, claims)
experiment.main()
""",
)
HELD_CATCH = """
import gymnasium, numpy, os, time
class HeldCatch(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 1, (10, 5))
    action_space = gymnasium.spaces.Discrete(3)
    steps = 0
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.row = 0
        return numpy.zeros((10, 5), numpy.float32), {}
    def step(self, action):
        self.row += 1
        self.steps += 1
        if self.steps > 600 and os.path.exists(os.environ["HELD"]):
            time.sleep(0.03)
        ended = self.row == 9
        reward = float(self.np_random.choice((-1, 1))) if ended else 0.0
        return numpy.zeros((10, 5), numpy.float32), reward, ended, False, {}
gymnasium.register("HeldCatch-v0", HeldCatch)
"""
"""A world as large as catch, in which the long runs take minutes for as long as a file exists, however busy the machine
is. A short run has at most 500 steps in each of its four instances."""
LONG = [f"tiny/{agent}/catch/long" for agent in ("v_trace", "none")]
SHORT = [f"tiny/{agent}/catch/seed_1" for agent in ("v_trace", "none")]


@pytest.fixture
def held(start, tmp_path):
    """`start` with that world, and the file."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "held_catch.py").write_text(HELD_CATCH)
    file = tmp_path / "held"
    file.touch()
    variables = {"PYTHONPATH": str(tmp_path / "package"), "HELD": str(file)}

    def start_held(*arguments, **environment):
        return start(*arguments, command=TINY, environment={**variables, **environment})

    return start_held, file


def process_of(started, folder):
    """The id of the process that trains in a folder, known by the file of its output; None if there is none."""
    for pid in started.all_processes():
        with contextlib.suppress(OSError):  # The process has just ended.
            if os.readlink(f"/proc/{pid}/fd/1") == str(folder / "logs" / "output.txt"):
                return pid
    return None


def agents_of(shown):
    """The lines of the agents' returns and scores."""
    lines = shown.out.splitlines()
    return [next(line for line in lines if line.startswith(f"{name} ")) for name in ("v_trace", "none")]


def changed(root, runs):
    return [(root / run / "progress.csv").stat().st_mtime_ns for run in runs]


@pytest.mark.slow(40)
def test_it_trains_is_interrupted_goes_on_and_shows_what_has_come_of_it(held, error_of, frames_saved, tmp_path):
    start, file = held
    folder = tmp_path / "the runs"
    root, where = folder / "machine", f"--runs={folder}"
    assert "None of tiny's runs in" in error_of(start("show", "tiny", where), 30)
    assert not folder.exists()

    # Ctrl-C while the last two train; meanwhile, the folder is locked.
    first = start("run", "tiny", where, "--parallel=2")
    first.wait_until(lambda: "Tiny: two agents: 4 of 4 runs to train, up to 2 at once, in " in first.out, 60)
    second = start("run", "tiny", where)
    assert error_of(second, 60) == f"--runs={root} is in use: wait until that command has ended, or give another."
    first.wait_until(lambda: all(csv_file.has_rows(root / run / "progress.csv") for run in LONG), 120)
    assert [first.out.count(f"{run} finished: return ") for run in SHORT] == [1, 1], first.describe()
    first.process.send_signal(signal.SIGINT)
    assert first.finish(60) == 130 and first.err == "", first.describe()
    first.wait_until_gone()
    assert "ending; runs that save: 2" in first.out and "Ended early by SIGINT. To resume: " in first.out
    assert shlex.split(first.out.splitlines()[-1])[-4:] == ["run", "tiny", where, "--parallel=2"]
    saved = [frames_saved(root / run)[-1] for run in LONG]
    assert all(0 < frames < 8_000 for frames in saved)

    # Other settings are refused.
    other = start("run", "tiny", where, BATCH="8")
    assert f"--runs={folder} holds runs with other settings: --batch_size: 4 there, 8 now" in error_of(other, 60)

    # A run that is killed is named, and the other goes on. Those that have finished are left alone.
    before = changed(root, SHORT)
    again = start("run", "tiny", where, "--parallel=2")
    again.wait_until(lambda: process_of(again, root / LONG[0]), 60)
    os.kill(process_of(again, root / LONG[0]), signal.SIGKILL)
    file.unlink()
    assert again.finish(120) == 1 and again.err == "", again.describe()
    assert "2 of 4 runs to train" in again.out and f"{LONG[1]} finished: return " in again.out
    assert f"{LONG[0]} failed: it ended with SIGKILL" in again.out and "To see the result" not in again.out
    assert changed(root, SHORT) == before and frames_saved(root / LONG[1])[-1] >= 8_000
    assert frames_saved(root / LONG[0])[-1] == saved[0]

    # Three of four can be shown, and the next start makes the fourth.
    listed, shown = start("list", where), start("show", "tiny", where)
    last = start("run", "tiny", where, "--only=*v_trace*")
    assert listed.finish(60) == 0 and shown.finish(60) == 0, shown.describe()
    assert "tiny           3 of 4" in listed.out
    assert [line[-1] for line in agents_of(shown)] == ["-", ")"]
    assert last.finish(120) == 0 and last.err == "", last.describe()
    assert "1 of 2 runs to train" in last.out and "resuming" in (root / LONG[0] / "logs" / "output.txt").read_text()
    assert shlex.split(last.out.splitlines()[-1])[-3:] == ["show", "tiny", where]

    shown = start("show", "tiny", where, f"--output={tmp_path / 'shown'}")
    assert shown.finish(60) == 0 and shown.err == "", shown.describe()
    assert [line[-1] for line in agents_of(shown)] == [")", ")"]  # Both have two runs, and so an interval.
    assert "V-trace scores higher. undecided: not enough runs." in shown.out
    table = pd.read_csv(tmp_path / "shown" / "tiny.csv")
    ends = table.groupby(["agent", "repeat"])["frames"].max()
    for agent in ("tiny/v_trace", "tiny/none"):
        assert ends[agent, "seed_1"] >= 2_000 and ends[agent, "long"] >= 8_000
        for repeat in ("seed_1", "long"):
            log = pd.read_csv(root / agent / "catch" / repeat / "progress.csv")
            own = table[(table["agent"] == agent) & (table["repeat"] == repeat)]
            assert own["mean_return_100"].iloc[-1] == pytest.approx(log["mean_return_100"].iloc[-1], abs=1e-4)
    assert matplotlib.image.imread(tmp_path / "shown" / "tiny.png").shape[0] > 300
    assert sorted(path.name for path in (tmp_path / "shown").iterdir()) == ["tiny.csv", "tiny.png"]


MISTAKES = {
    (): "Something is missing: impala-experiment list [NAME], impala-experiment run NAME",
    ("train", "table_2"): "There is no 'train': impala-experiment list [NAME]",
    ("run",): "Which experiment? There are: table_2, figure_e1",
    ("run", "tabel_2"): "There is no experiment 'tabel_2'. Did you mean table_2? There are:",
    ("list", "tabel_2"): "Did you mean table_2?",
    ("run", "table_2", "more"): "Unknown argument 'more'",
    ("run", "table_2", "--lr=3"): "Unknown flag --lr. Usage: impala-experiment list [NAME], ",
    ("run", "table_2", "--scale=papers"): "--scale",
    ("run", "table_2", "--only=v_trace"): (
        "--only=v_trace matches no run of table_2. They have names like table_2/v_trace/catch/seed_1;"
    ),
    ("show", "table_2", "--only=*v_trace*"): "--only is for run and list: show needs all runs",
    ("list", "table_2", "--only=v_trace"): "--only=v_trace matches no run of table_2.",
    ("show", "table_1"): "table_1 has no runs at --scale=machine. Made with other commands: on one machine",
    ("run", "table_4", "--scale=paper", "--cluster=ray", "--only=*/pong/1"): "--cluster=ray needs --address, or",
    ("show", "tiny", "--scale=paper"): "tiny has no runs at --scale=paper, but at --scale=machine.",
}


@pytest.mark.slow(6)
def test_mistakes_are_found_before_anything_is_written(start, error_of, tmp_path):
    where = f"--runs={tmp_path / 'runs'}"
    cases = dict(MISTAKES)
    if importlib.util.find_spec("deepmind_lab") is None:
        cases["run", "table_2", "--scale=paper"] = "dmlab/<level> needs the Python module deepmind_lab"
    started = {words: start(*words, where, command=TINY if "tiny" in words else EXPERIMENT) for words in cases}
    for words, message in cases.items():
        assert message in error_of(started[words], 60), words
    assert not list(tmp_path.iterdir())


def parse(line):
    absl_flags.FLAGS.unparse_flags()
    command._parse_flags(shlex.split(line))
    return flags.to_config()


@pytest.mark.parametrize("name", [name for name, experiment in catalogue.ALL.items() if experiment.grids])
def test_the_command_lines_are_those_of_the_runs(name, tmp_path):
    if "total_frames" not in absl_flags.FLAGS:
        flags.define()
    if setups.NAME not in absl_flags.FLAGS:
        setups.define()
    for grid in catalogue.ALL[name].grids.values():
        runs = list(grid.runs())[:40]
        for run, line in zip(runs, report.command_lines(grid, runs, tmp_path).splitlines()):
            shared = setups.settings(grid.setup) if grid.setup else {}
            expected = {**shared, **run.settings, "logdir": str(tmp_path / run.folder)}
            assert parse(line) == config_lib.from_values(expected), line


def test_impala_train_takes_the_lines_of_list(start, tmp_path):
    only = "--only=table_2/none_replay/*/*1"
    listed = [
        start("list", "table_2", f"--scale={scale}", only, f"--runs={tmp_path / 'runs'}", command=EXPERIMENT)
        for scale in ("machine", "paper")
    ]
    checks = []
    for run, number in zip(listed, (4, 5 * 3)):
        assert run.finish(30) == 0 and run.err == "", run.describe()
        lines = [shlex.split(line) for line in run.out.splitlines()]
        assert len(lines) == number and {line[0] for line in lines} == {"impala-train"}
        checks.append(start(*lines[-1][1:], "--only_check_args"))
    for check in checks:
        assert check.finish(30) == 0 and (check.out, check.err) == ("", ""), check.describe()
    assert not list(tmp_path.iterdir())

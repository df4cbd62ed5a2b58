"""The model card, from the files of real runs and from runs with few or no records."""

import csv
import json
import logging
import pathlib
import resource
import shlex
import shutil
import subprocess
import sys

import pytest
from absl import flags as absl_flags

from impala_tf import config as config_lib
from impala_tf import flags, suites, topology
from impala_tf.files import write_json
from impala_tf.records import curve, model_card
from impala_tf.records.logdir import LogDir
from impala_tf.run import train

ROOT = pathlib.Path(__file__).parents[2]
RUNS = ROOT / "paper_figures" / "data"


@pytest.fixture
def folder(tmp_path):
    """Returns a function that copies a real run's folder, by name."""

    def copy(name):
        return LogDir(str(shutil.copytree(RUNS / name, tmp_path / name)))

    return copy


def card(logdir):
    assert model_card.write(logdir)
    return logdir.model_card.read_text()


def cells(text):
    """Returns {first cell: the others} for the rows of all tables."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {first: others for first, *others in rows}


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def best_of(rows):
    """Returns (return, frames) of the highest mean over 100 episodes."""
    return max((float(row["mean_return_100"]), int(row["frames"])) for row in rows if int(row["episodes"]) >= 100)


def test_one_game(folder):
    logdir = folder("pong_shallow")
    text, rows = card(logdir), rows_of(logdir.progress)
    last, (best, at) = rows[-1], best_of(rows)
    found = cells(text)
    assert found["environment frames"] == [f"{int(last['frames']):,}"]
    assert found["episodes"] == [f"{int(last['episodes']):,}"]
    assert found["mean return of the last 100 episodes"] == [f"{float(last['mean_return_100']):.2f}"]
    assert found["best mean return in the run"] == [f"{best:.2f} at {at:,} frames"]
    score = suites.human_normalised("atari/pong", float(last["mean_return_100"]))
    assert found["human-normalized score"] == [f"{100 * score:.1f}%"]
    assert found["wall-clock time"] == [f"{float(last['seconds']) / 3600:.2f} hours"]
    assert found["mean speed"] == [f"{int(last['frames']) / float(last['seconds']):,.0f} frames/s"]
    assert found["seed"] == ["1"] and found["torso"] == ["shallow"]
    assert "tensorflow 2.15" in found["versions"][0] and " cores, " in found["machine that wrote this card"][0]
    assert "learner steps" not in found  # Its checkpoints are not here.
    assert "![Learning curve](learning_curve.png)" in text
    assert "ended at 53% of its 20,000,000 frames, with the learning rate at 0.00057 of 0.0006" in text


def test_several_games(folder):
    logdir = folder("atari_six")
    text, rows = card(logdir), rows_of(logdir.tasks)
    found = cells(text)
    names = json.loads(logdir.config.read_text())["env"].split(",")
    for name in names:
        task_rows = [row for row in rows if row["task"] == name]
        last, (best, at) = task_rows[-1], best_of(task_rows)
        assert found[name] == [
            f"{int(last['task_frames']):,}",
            f"{int(last['episodes']):,}",
            f"{float(last['mean_return_100']):,.2f}",
            f"{best:,.2f} at {at:,} frames",
            f"{100 * float(last['human_normalised']):.1f}%",
        ]
    assert found["human-normalized score, median over the tasks"] == ["4.9%"]
    assert not any(first.startswith("mean return of") for first in found)  # A mean over different games is meaningless.
    assert "It ended at" not in text and "not told which task" in text


def test_without_references_and_with_a_lucky_start(folder):
    """A high mean over the first few games does not count as the best."""
    logdir = folder("babyai_go_to_local")
    rows = rows_of(logdir.progress)
    lucky = {**rows[0], "episodes": "2", "mean_return_100": "1.0"}
    with open(logdir.progress, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows([lucky, *rows])
    found = cells(card(logdir))
    assert "human-normalized score" not in found
    best, at = best_of(rows)
    assert found["best mean return in the run"] == [f"{best:.2f} at {at:,} frames"]


def test_with_a_checkpoint_and_evaluations(folder):
    logdir = folder("pong_shallow")
    for frames in (100, 2000):
        (logdir.checkpoints / f"{frames:012d}").mkdir(parents=True)
        write_json(
            logdir.checkpoints / f"{frames:012d}" / "state.json", {"learner_step": 5 * frames, "parameters": 1_234_567}
        )
    (logdir.exports / "000000001000").mkdir(parents=True)
    logdir.evaluations.write_text(
        "frames,task,episodes,mean,ci_low,ci_high,median,human_normalised\n"
        "100,atari/pong,50,-20.5,-20.6,-20.4,-21,0.01\n"
        "2000,atari/pong,30,11,10,12,11,0.9\n"
        "2000,atari/pong,200,18.25,17.5,19,20,\n"
    )
    text = card(logdir)
    found = cells(text)
    assert found["learner steps"] == ["10,000"] and found["parameters"] == ["1,234,567"]
    assert found["newest checkpoint"] == ["`checkpoints/000000002000`, at 2,000 frames"]
    assert found["newest SavedModel"] == ["`exports/000000001000`, at 1,000 frames"]
    assert "the policy at 2,000 frames" in text
    assert found["atari/pong"] == ["200", "18.25", "17.50 to 19.00", "20.00", "none"]
    assert "-20.5" not in text and "11.00" not in text


def test_the_commands_have_the_settings_of_the_run(tmp_path):
    if "total_frames" not in absl_flags.FLAGS:
        flags.define()
    logdir = LogDir(str(tmp_path / "a run"))
    values = {
        "env": "catch",
        "life_loss_ends_episode": False,
        "full_action_set": True,
        "learning_rate": 1.5e-3,
        "dmlab_dataset_path": "it's here",
        "seed": 7,
        "num_actors": 0,
        "total_frames": 500,
        "logdir": str(logdir.path),
    }
    logdir.check(config_lib.from_values(values))
    config = config_lib.from_values({**values, "role": "learner", "port": 4000, "address": "x:1"})
    logdir.prepare(config, topology.resolve(config, 1, topology.alone("x:1")))
    logdir.progress.write_text(
        "frames,seconds,episodes,mean_return_100,learning_rate\n100,2.0,0,nan,0.0012\n500,10.0,7,0.5,0\n"
    )
    text = card(logdir)
    found = [shlex.split(line) for line in text.splitlines() if " --logdir=" in line or "'--logdir=" in line]
    programs_of = [pathlib.Path(command[0]).name for command in found]
    commands = [["impala-train", *command[1:]] for command in found if pathlib.Path(command[0]).name == "impala-train"]
    for command, total_frames in zip(commands, (500, 1000)):  # To repeat the run and to resume it.
        absl_flags.FLAGS.unparse_flags()
        for _, setting in config_lib.settings():
            absl_flags.FLAGS[setting.name].value = setting.default
        assert absl_flags.FLAGS(command) == ["impala-train"]
        assert flags.to_config() == config_lib.from_values({**values, "total_frames": total_frames})
        assert len(command) == 1 + len(values)
    assert len(commands) == 2
    assert programs_of == ["impala-train", "impala-train", "impala-evaluate", "impala-export"]
    found = cells(text)
    assert found["mean return of the last 7 episodes"] == ["0.50"]
    assert found["its command"] and found["last start"] and found["machine of the learner"]
    assert "machine that wrote this card" not in found


ARCHITECTURES = next(s.metadata["choices"] for _, s in config_lib.settings() if s.name == "architecture")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_algorithm_is_named(folder, architecture):
    logdir = folder("pong_shallow")
    write_json(logdir.config, {**json.loads(logdir.config.read_text()), "architecture": architecture})
    title = card(logdir).splitlines()[0]
    assert ("A2C" in title, "A3C" in title) == ("a2c" in architecture, architecture == "a3c")
    assert ("IMPALA" in title) == (architecture == "impala")


def test_nothing_logged(tmp_path):
    """A run that was interrupted before its first update."""
    logdir = LogDir(str(tmp_path))
    logdir.prepare(config_lib.from_values({"logdir": str(tmp_path)}))
    for content in (None, "", "frames,episodes,mean_return_100\n"):
        if content is not None:
            logdir.progress.write_text(content)
        assert not model_card.write(logdir) and not curve.draw(logdir, "nothing")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".claim", "config.json", "logs", "progress.csv"]


def test_no_episode_yet(folder):
    logdir = folder("pong_shallow")
    header, first, *_ = logdir.progress.read_text().splitlines()
    logdir.progress.write_text(f"{header}\n{first}\n")
    found = cells(card(logdir))
    assert found["episodes"] == ["0"] and found["mean return of the last 0 episodes"] == ["none"]


def test_it_does_not_import_tensorflow(folder):
    """The process that launches a run has not imported it."""
    logdir = folder("pong_shallow")
    code = (
        "import sys\n"
        "from impala_tf.records import model_card\n"
        "from impala_tf.records.logdir import LogDir\n"
        "assert model_card.write(LogDir(sys.argv[1]))\n"
        "assert not {'tensorflow', 'reverb'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(logdir.path)], cwd=ROOT, check=True, timeout=60)
    assert logdir.model_card.exists()


@pytest.fixture
def small_files():
    """Returns a function that limits files to 100 bytes, which fails writes as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("fault", ["disk", "csv"])
def test_a_finished_run_succeeds_without_curve_and_card(folder, small_files, caplog, fault):
    """If they cannot be written, a line says so for each of them, and the old ones stay."""
    caplog.set_level(logging.INFO)
    logdir = folder("pong_shallow")
    curve_before, card_before = logdir.curve.read_bytes(), card(logdir)
    config = config_lib.from_values({"env": "atari/pong", "logdir": str(logdir.path), "total_frames": 10_539_520})
    names = {path.name for path in logdir.path.iterdir()}
    if fault == "disk":
        small_files()
        expected = ""
    else:
        logdir.progress.write_text("frames\n1\n1,2\n")
        expected = f"({logdir.progress}, line 3 ('1,2'), has 2 values for 1 columns."
    assert train._conclude(config, []) == 0
    out = "\n".join(caplog.messages)
    assert not any(record.exc_info for record in caplog.records)
    for what in ("The learning curve could not be drawn (", "The model card could not be written ("):
        (line,) = (line for line in out.splitlines() if line.startswith(what))
        assert expected in line
    assert "--total_frames=" in out and str(logdir.model_card) not in out and str(logdir.curve) not in out
    assert logdir.curve.read_bytes() == curve_before and logdir.model_card.read_text() == card_before
    assert {path.name for path in logdir.path.iterdir()} == names


def test_curve_and_card_are_listed(folder, caplog):
    caplog.set_level(logging.INFO)
    logdir = folder("babyai_go_to_local")
    config = config_lib.from_values({"env": "catch", "logdir": str(logdir.path)})
    assert train._conclude(config, [2]) == 130
    assert {f"  curve        {logdir.curve}", f"  model card   {logdir.model_card}"} <= set(caplog.messages)

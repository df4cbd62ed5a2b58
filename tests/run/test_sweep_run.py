"""impala-sweep run, as a command: trains, names what fails, is interrupted and goes on."""

from __future__ import annotations

import signal

import pandas as pd
import pytest

SWEEP = ("-m", "run.sweep", "run")
FLAGS = ("--env=catch", "--num_actors=0", "--log_interval=0.1", "--unroll_length=10", "--batch_size=8")


def flags(tmp_path, *more):
    (tmp_path / "v.csv").write_text("learning_rate,total_frames\n0.003,2000\n0.001,2000\n0.002,100000000\n")
    return [*FLAGS, f"--values={tmp_path / 'v.csv'}", f"--output={tmp_path / 'sweep'}", "--at_once=3", *more]


@pytest.mark.slow(50)
def test_it_finishes_what_it_can_and_is_interrupted_and_goes_on(start, tmp_path, frames_saved):
    folder = tmp_path / "sweep"
    started = start(*flags(tmp_path), command=SWEEP)
    started.wait_until(lambda: started.out.count(" finished: return ") == 2, 120)
    progress = folder / "02" / "progress.csv"
    started.wait_until(lambda: progress.exists() and progress.stat().st_size > 0, 60)  # After an update.
    started.process.send_signal(signal.SIGINT)
    assert started.finish(30) == 130, started.describe()
    started.wait_until_gone()
    assert started.err == "" and "Ended early by SIGINT. To resume: " in started.out, started.describe()
    rows = pd.read_csv(folder / "sweep.csv")
    assert rows["state"].tolist() == ["finished", "finished", "interrupted"]
    assert rows["frames"][2] == frames_saved(folder / "02")[-1] > 0 and (folder / "sweep.png").exists()

    # A run that fails does not stop the others; those that have finished are left alone.
    before = [(folder / name / "progress.csv").stat().st_mtime_ns for name in ("00", "01")]
    state = sorted((folder / "02" / "checkpoints").iterdir())
    for checkpoint in state:
        (checkpoint / "state.json").write_text("damaged")
    again = start(*flags(tmp_path), command=SWEEP)
    assert again.finish(120) == 1 and again.err == "", again.describe()
    assert "combination 2 failed: None of the" in again.out
    assert [(folder / name / "progress.csv").stat().st_mtime_ns for name in ("00", "01")] == before
    assert pd.read_csv(folder / "sweep.csv")["state"].tolist() == ["finished", "finished", "failed"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--lr=1"], "Unknown flag --lr. Did you mean --learning_rate?"),
        (["--logdir=x"], "--logdir: impala-sweep run gives every run a folder below --output."),
        (["--output="], "--output is needed"),
        (["--correction=none", "--rho_bar=2"], "--correction=none does not use --rho_bar"),
        (["--env=atari/no_such_game"], "no_such_game"),
    ],
)
def test_mistakes_are_found_before_anything_is_started(start, error_of, tmp_path, more, message):
    assert message in error_of(start(*flags(tmp_path, *more), command=SWEEP), 30)
    assert not (tmp_path / "sweep").exists()

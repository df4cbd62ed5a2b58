"""impala-plot, as a command."""

from __future__ import annotations

import matplotlib.image

from impala_tf import config as config_lib
from impala_tf.records.logdir import LogDir

PLOT = ("-m", "run.plot")


def run(folder, seed, final):
    folder.mkdir(parents=True)
    logdir = LogDir(str(folder))
    logdir.prepare(config_lib.from_values({"env": "catch", "logdir": str(folder), "seed": seed}))
    logdir.progress.write_text(f"frames,seconds,mean_return_100\n1000,1,nan\n2000,2,{final}\n")


def test_it_draws_runs_and_tells_how_they_end(start, error_of, tmp_path):
    for seed, final in ((1, 0.5), (2, 0.6), (3, 0.7)):
        run(tmp_path / "runs" / f"seed_{seed}", seed, final)
    run(tmp_path / "one", 1, "nan")
    picture = tmp_path / "made" / "curves.png"
    # Flags may stand before, between and after the folders.
    drawn = start("runs", f"--output={picture}", "one", command=("-c", CHDIR.format(str(tmp_path))))
    mistakes = {
        (): "Which runs? Usage: impala-plot RUN...",
        (str(tmp_path / "one"),): "None of the runs has a value of mean_return_100 yet.",
    }
    failed = {words: start(*words, command=PLOT) for words in mistakes}
    assert drawn.finish(30) == 0, drawn.describe()
    assert "left out, without a value of mean_return_100: 1 run, such as one" in drawn.out + drawn.err
    assert matplotlib.image.imread(picture).shape[0] > 300
    (line,) = [line for line in drawn.out.splitlines() if line.startswith("all ")]
    assert line.split() == ["all", "3", "2,000", "0.60", "0.35", "to", "0.85", "0.50", "to", "0.70"]
    for words, message in mistakes.items():
        assert message in error_of(failed[words], 30), words


CHDIR = """
import os
os.chdir({!r})
from impala_tf.run import plot
plot.main()
"""

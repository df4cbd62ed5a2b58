"""impala-sweep, run as a command."""

from __future__ import annotations

import pytest

from impala_tf.experiments import sweep

SWEEP = ("-m", "run.sweep")


def flags_of(values):
    return [f"--{name}={value!r}" for name, value in values.items()]


def test_prints_the_combinations(start):
    runs = [start("--seed=5", *more, command=SWEEP) for more in ([], ["--combinations=3"])]
    for run, number in zip(runs, (24, 3)):
        assert run.finish(30) == 0 and run.err == "", run.describe()
        assert run.out == "".join(" ".join(flags_of(values)) + "\n" for values in sweep.draw(5, number))


def test_writes_flag_files_and_never_overwrites_others(start, error_of, tmp_path):
    folder = tmp_path / "new" / "sweep"
    first = start("--seed=1", f"--output={folder}", command=SWEEP)
    assert first.finish(30) == 0 and first.err == "", first.describe()
    assert first.out.startswith(f"Wrote 24 flag files to {folder}: --flagfile={folder}/sweep_00.flags")
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == [f"sweep_{number:02}.flags" for number in range(24)]
    for number, (file, values) in enumerate(zip(files, sweep.draw(1))):
        comment, *flags = file.read_text().splitlines()
        assert comment == f"# Combination {number} of 24, sampled with seed 1 from the ranges of Table D.1."
        assert flags == flags_of(values)

    before = [file.read_text() for file in files[1:]]
    files[0].unlink()
    error = error_of(start("--seed=2", f"--output={folder}", command=SWEEP), 30)
    assert error.startswith(f"{files[1]} exists already: give another --output")
    assert [file.read_text() for file in sorted(folder.iterdir())] == before  # sweep_00 was not written either.


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--combinations=0"], "--combinations"),
        (["--seed=-1"], "--seed"),
        (["24"], "Unknown argument '24'"),
        (["--env=catch"], "Unknown flag --env. impala-sweep run trains the combinations."),
        (["run", "--zzzz=1"], "impala-sweep run --help lists all flags."),
        (["--output=/dev/null/sweep"], "--output=/dev/null/sweep cannot be written: Not a directory"),
    ],
)
def test_errors(start, error_of, flags, message):
    assert message in error_of(start(*flags, command=SWEEP), 30)

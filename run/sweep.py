"""Samples the paper's hyperparameter sweep: `impala-sweep --seed=1 --output=runs/sweep`, or `python -m run.sweep`.

Writes one flag file per hyperparameter combination (Table D.1). Put it after the flag file of an experiment, whose
values it overrides: `impala-train --setup=dmlab_shallow --flagfile=runs/sweep/sweep_00.flags`. Without --output, prints
the flags, one combination per line. `impala-sweep run` trains the combinations (`impala-sweep run --help`).
"""

from __future__ import annotations

import functools
import logging
import pathlib
import sys

from absl import flags

from impala_tf import flags as impala_flags
from impala_tf.errors import UserError
from impala_tf.experiments import sweep

from . import command, sweep_run

_say = logging.getLogger("impala_tf.run").info


def _write(folder: pathlib.Path, combinations: list[dict[str, float]], seed: int) -> None:
    files = [folder / f"sweep_{number:02}.flags" for number in range(len(combinations))]
    if existing := [file for file in files if file.exists()]:
        raise UserError(f"{existing[0]} exists already: give another --output, or remove the sweep in this one.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, (file, values) in enumerate(zip(files, combinations)):
            about = f"# Combination {number} of {len(files)}, sampled with seed {seed} from the ranges of Table D.1.\n"
            file.write_text(about + "".join(f"{flag}\n" for flag in _flags(values)))
    except OSError as error:
        raise UserError(f"--output={folder} cannot be written: {error.strerror}.") from None


def _flags(values: dict[str, float]) -> list[str]:
    return [f"--{name}={value!r}" for name, value in values.items()]


def _main() -> int:
    combinations = sweep.draw(flags.FLAGS.seed, flags.FLAGS.combinations)
    if flags.FLAGS.output:
        folder = pathlib.Path(flags.FLAGS.output)
        _write(folder, combinations, flags.FLAGS.seed)
        _say(f"Wrote {len(combinations)} flag files to {folder}: --flagfile={folder / 'sweep_00.flags'} and so on.")
    else:
        _say("\n".join(" ".join(_flags(values)) for values in combinations))
    return 0


def main() -> None:
    """Entry point of `impala-sweep` and `impala-sweep run`."""
    if sys.argv[1:2] == ["run"]:
        sys.argv[:2] = [str(pathlib.Path(sys.argv[0]).with_name("impala-sweep run"))]
        sweep_run.main()
        return
    define = functools.partial(impala_flags.define_own, "The sweep")
    define("seed", 1, "Seed for sampling the combinations.", at_least=0)
    define("combinations", sweep.COMBINATIONS, "Combinations; the paper uses 24.", at_least=1)
    define("output", "", "Folder to write the flag files to; empty: print the flags.", path=True)
    command.run(_main, __doc__, "impala-sweep run trains the combinations.")


if __name__ == "__main__":
    main()

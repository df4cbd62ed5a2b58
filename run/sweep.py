"""Draws the paper's sweep: `impala-sweep --seed=1 --output=runs/sweep`, or `python -m run.sweep`.

Writes one flag file for each combination of hyperparameters (Table D.1), to be read after a set-up's, over whose values
they go: `impala-train --flagfile=run/flagfiles/dmlab_shallow.flags --flagfile=runs/sweep/sweep_00.flags`. Without
--output, prints their flags, one combination a line.
"""

from __future__ import annotations

import logging
import pathlib

from absl import flags

from impala_tf.errors import UserError
from impala_tf.experiments import sweep
from run import command

_say = logging.getLogger("impala_tf.run").info


def _write(folder: pathlib.Path, combinations: list[dict[str, float]], seed: int) -> None:
    files = [folder / f"sweep_{number:02}.flags" for number in range(len(combinations))]
    if existing := [file for file in files if file.exists()]:
        raise UserError(f"{existing[0]} is there already: give another --output, or remove the sweep in this one.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, (file, values) in enumerate(zip(files, combinations)):
            about = f"# Combination {number} of {len(files)}, drawn with seed {seed} from Table D.1's ranges.\n"
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
        _say(f"{len(combinations)} flag files are in {folder}: --flagfile={folder / 'sweep_00.flags'} and so on.")
    else:
        _say("\n".join(" ".join(_flags(values)) for values in combinations))
    return 0


def main() -> None:
    """Entry point of `impala-sweep`."""
    flags.DEFINE_integer("seed", 1, "Seed that the combinations are drawn with.", lower_bound=0)
    flags.DEFINE_integer("combinations", sweep.COMBINATIONS, "How many; the paper has 24.", lower_bound=1)
    flags.DEFINE_string("output", "", "Folder for the flag files; without one the flags are printed.")
    command.run(_main)


if __name__ == "__main__":
    main()

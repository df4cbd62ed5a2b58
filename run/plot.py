"""Draws runs in one picture: `impala-plot runs/pong --output=pong.png`, or `python -m run.plot`.

  impala-plot runs/a runs/b                                  two runs
  impala-plot runs --column=entropy --against=hours          all runs below a folder
  impala-plot runs/old runs/new --label='before,after'       with names of your own

RUN is a run's folder (its --logdir) or a folder that contains runs. Runs that differ only in their seeds are one line,
their mean with its 95% interval, labeled by the settings in which the lines differ; environments have a panel each.
"""

from __future__ import annotations

import functools
import logging
import pathlib

from absl import flags

from impala_tf import flags as impala_flags
from impala_tf.errors import UserError
from impala_tf.experiments import group_picture, run_groups

from . import command

_LOGGER = logging.getLogger("impala_tf.run")


def _main(paths: list[str]) -> int:
    if not paths:
        raise UserError("Which runs? Usage: impala-plot RUN... [--output=plot.png]; RUN is a folder.")
    values = flags.FLAGS
    output = pathlib.Path(values.output)
    group_picture.check(output)
    names = [name.strip() for name in values.label.split(",")] if values.label else []
    groups, without = run_groups.read(run_groups.find(paths, names), values.column, values.against)
    if not groups:
        raise UserError(f"None of the runs has a value of {values.column} yet.")
    if without:
        number = f"{len(without)} run{'s' * (len(without) > 1)}"
        _LOGGER.warning(
            "left out, without a value of %s: %s, such as %s", values.column, number, without[0].logdir.path
        )
    group_picture.save(group_picture.draw(groups, values.column, values.against), output)
    _LOGGER.info("%s\n\n  picture  %s", group_picture.table(groups, values.column), output)
    return 0


def main() -> None:
    """Entry point of `impala-plot`."""
    define = functools.partial(impala_flags.define_own, "The picture")
    define(
        "output", "plot.png", "File of the picture; its suffix is the format: .png, .svg, .pdf and others.", path=True
    )
    define("column", group_picture.RETURN, "Column of progress.csv to draw.")
    define("against", run_groups.FRAMES, "What the column is drawn against.", choices=run_groups.AGAINST)
    define("label", "", "Names of the RUN arguments in the picture, separated by commas; the same name joins them.")
    command.run(_main, __doc__, "Usage: impala-plot RUN... [--output=plot.png].", arguments="RUN...")


if __name__ == "__main__":
    main()

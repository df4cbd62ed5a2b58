"""Exports the newest checkpoint of a run as a SavedModel: `impala-export --logdir=runs/pong --output=models/pong`.

Also available as `python -m run.export`. `impala_tf.export.saved_model` documents the format.
"""

from __future__ import annotations

import functools
import logging
import os
import pathlib

from absl import flags

from impala_tf import flags as impala_flags
from impala_tf import programs, quiet
from impala_tf.errors import UserError
from impala_tf.processes import imports

from . import command

_LOGGER = logging.getLogger("impala_tf.run")


def _main() -> int:
    for name, example in (("logdir", "runs/pong"), ("output", "models/pong")):
        if not flags.FLAGS[name].value:
            raise UserError(f"--{name} is required, for example --{name}={example}.")
    from impala_tf.export import saved_model
    from impala_tf.records.logdir import LogDir

    logdir, output = LogDir(flags.FLAGS.logdir), pathlib.Path(flags.FLAGS.output)
    logdir.read_config()  # Reports errors before TensorFlow is imported, which takes seconds.
    saved_model.check_output(output)
    quiet.native_stderr(os.devnull)
    with imports.quickly():
        from impala_tf.export import exporter

    checkpoint = exporter.export(logdir, output)
    _LOGGER.info("Exported %s to %s.", checkpoint, output)
    evaluate = programs.line("impala-evaluate", f"--saved_model={output}", f"--output={output}.json")
    _LOGGER.info("To evaluate it: %s", evaluate)
    return 0


def main() -> None:
    """Entry point of `impala-export`."""
    define = functools.partial(impala_flags.define_own, "The export")
    define("logdir", "", "Folder of the run, which may still be in progress.", path=True)
    define("output", "", "Folder to write the SavedModel to; must not exist.", path=True)
    command.run(_main, __doc__)


if __name__ == "__main__":
    main()

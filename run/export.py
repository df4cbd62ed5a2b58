"""Exports the newest checkpoint of a run as a SavedModel: `impala-export --logdir=runs/pong --output=models/pong`.

The same as `python -m run.export`. `impala_tf.export` says what is in the SavedModel.
"""

from __future__ import annotations

import os
import pathlib
import sys

from absl import app, flags, logging

from impala_tf import quiet
from impala_tf.errors import UserError
from run.train import parse_flags


def _say(message: str) -> None:
    print(message, flush=True)


def _main(argv: list[str]) -> int:
    try:
        if len(argv) > 1:
            raise UserError(f"Unknown argument {argv[1]!r}: settings are given as --name=value (see --help).")
        for name in ("logdir", "output"):
            if not flags.FLAGS[name].value:
                raise UserError(f"--{name} is needed, for example --{name}={name}s/pong.")
        from impala_tf.records.logdir import LogDir

        logdir, output = LogDir(flags.FLAGS.logdir), pathlib.Path(flags.FLAGS.output)
        logdir.read_config()  # Tells what is wrong before TensorFlow is imported, which takes seconds.
        quiet.native_stderr(os.devnull)
        from impala_tf.export import exporter as export

        checkpoint = export.export(logdir, output, _say)
        _say(f"{output} has the agent of {checkpoint}.")
        _say(f"To evaluate it: impala-evaluate --saved_model={output} --output={output}.json")
    except UserError as error:
        print(f"ERROR: {error}", file=sys.stderr, flush=True)
        return 2
    return 0


def main() -> None:
    """Entry point of `impala-export`."""
    flags.DEFINE_string("logdir", "", "Folder of the run, which may be going on.")
    flags.DEFINE_string("output", "", "Folder of the SavedModel; must not exist.")
    logging.set_verbosity(logging.WARNING)
    app.run(_main, flags_parser=parse_flags)


if __name__ == "__main__":
    main()

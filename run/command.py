"""Code shared by the commands: flags, console output, errors in one line, exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable

from absl import app, flags, logging

from impala_tf.errors import UserError
from impala_tf.processes import console


def run(command: Callable[[], int]) -> None:
    """Parses the flags, runs a command, and exits with its status.

    Args:
      command: does the work and returns the exit status. If it raises `UserError`, the message is shown in one line and
        the status is 2.
    """

    def main(argv: list[str]) -> int:
        console.show()
        try:
            if len(argv) > 1:
                raise UserError(f"Unknown argument {argv[1]!r}: settings are given as --name=value (see --help).")
            return command()
        except UserError as error:
            print(f"ERROR: {error}", file=sys.stderr, flush=True)
            return 2

    logging.set_verbosity(logging.WARNING)
    app.run(main, flags_parser=_parse_flags)


def _parse_flags(argv: list[str]) -> list[str]:
    """Parses the flags; reports an unknown flag in one line with similar names, and exits with status 2."""
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        print(f"ERROR: {error} (--help lists all settings)", file=sys.stderr, flush=True)
        sys.exit(2)

"""Code shared by the commands: flags, help, console output, errors in one line, exit status."""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import sys
from collections.abc import Callable

from absl import app, flags, logging

import impala_tf
from impala_tf import flags as impala_flags
from impala_tf.errors import UserError
from impala_tf.processes import console

from . import near, setups, usage

_HELP = ("-h", "--h", "-help", "--help", "-?", "--helpshort", "--helpfull")
_INTERRUPTED = 130  # 128 + SIGINT.


def run(command: Callable[..., int], about: str | None, hint: str = "", arguments: str = "") -> None:
    """Parses the flags, runs a command, and exits with its status.

    Args:
      command: does the work and returns the exit status. If it raises `UserError`, the message is shown in one line and
        the status is 2.
      about: what the command does, for --help.
      hint: what else somebody may want who gives a flag that does not exist.
      arguments: what the command takes besides flags, for --help; it is called with a list of them then.
    """

    def main(argv: list[str]) -> int:
        console.show()
        try:
            if arguments:
                return command(argv[1:])
            if len(argv) > 1:
                raise UserError(
                    f"Unknown argument {argv[1]!r}: flags are given as --name=value, for example --env=catch "
                    f"({_program()} --help lists them)."
                )
            return command()
        except UserError as error:
            return _failed(error)
        except KeyboardInterrupt:
            return _INTERRUPTED

    logging.set_verbosity(logging.WARNING)
    _answer(about or "", arguments)
    app.run(main, flags_parser=functools.partial(_parse_flags, hint=hint))


def _answer(about: str, arguments: str) -> None:
    """Prints what --help or --version ask for, and exits with status 0; returns if there is none of them."""
    for argument in sys.argv[1:]:
        if argument == "--":
            return
        if argument in _HELP or argument == "--version":
            version = f"impala_tf {impala_tf.__version__}\n"
            _print(version if argument == "--version" else usage.text(_program(), about, arguments))
            sys.exit(0)


def _print(text: str) -> None:
    """Writes to standard output; a reader that has seen enough (`| head`) is no error."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # For the interpreter's own flush at its exit.


def _parse_flags(argv: list[str], hint: str = "") -> list[str]:
    """Parses the flags, those of a setup first; reports a wrong one in one line, and exits with status 2."""
    values = flags.FLAGS
    try:
        rest = values(argv)
        if setups.NAME in values and values[setups.NAME].value:
            # Again from the start, since later flags win. The first time tells the name, also where a file has it.
            rest = values([argv[0], f"--flagfile={setups.file(values[setups.NAME].value)}", *argv[1:]])
        for flag in values.flags_by_module_dict()["absl.logging"]:
            if flag.present:  # They do nothing here, and --log_dir could be taken for --logdir.
                raise flags.UnrecognizedFlagError(flag.name)
        return rest
    except flags.UnrecognizedFlagError as error:
        known = [setting.name for settings in impala_flags.GROUPS.values() for setting in settings]
        meant = " or ".join(f"--{flag}" for flag in near.matches(error.flagname, known))
        parts = [f"Did you mean {meant}?"] if meant else [hint] if hint else []
        said = [f"Unknown flag --{error.flagname}.", *parts, f"{_program()} --help lists all flags."]
        sys.exit(_failed(" ".join(said)))
    except flags.CantOpenFlagFileError as error:
        cause = error.__context__
        where = f"{cause.filename} cannot be read: {cause.strerror}" if isinstance(cause, OSError) else str(error)
        sys.exit(_failed(f"--flagfile={where}. The setups of this package are named with --{setups.NAME}."))
    except (flags.Error, ValueError, UserError) as error:
        sys.exit(_failed(str(error).removeprefix("flag ")))


def _failed(error: object) -> int:
    print(f"ERROR: {error}", file=sys.stderr, flush=True)
    return 2


def _program() -> str:
    name = pathlib.Path(sys.argv[0]).stem
    return name if name.startswith("impala-") else f"impala-{name}"

"""A command at work as a program of its own that never outlives this process.

Like `Child`, it leads a session of its own, so that the terminal's signals reach it only through this process, and the
kernel sends it SIGTERM when this process ends, however it ends (on Linux; see `lifeline`).
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from impala_tf.errors import UserError
from impala_tf.processes import lifeline

_KILL_SECONDS = 5.0
_LAST_BYTES = 20_000
_LOOK_SECONDS = 0.05
HELD = (sys.executable, "-I", "-S", lifeline.__file__)
"""What a program's line begins with, then the lifeline's number: it takes 15 ms.

The program, not this process, says what is to happen when this process ends: it might be killed before.
"""


class Command:
    """A program that has been started.

    Attributes:
      pid: its process id.
    """

    def __init__(self, line: Sequence[str], output: pathlib.Path):
        """Starts the program.

        Args:
          line: the program and its arguments.
          output: file to which its standard output and standard error are appended; its folder exists.

        A program that does not exist ends with status 1, and `error` says so.

        Raises:
          UserError: no program can be started.
        """
        self._output = output
        its_end, self._lifeline = os.pipe()
        try:
            with open(output, "ab") as file:
                self._written_before = file.tell()
                self._process = subprocess.Popen(
                    [*HELD, str(its_end), *line],
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    pass_fds=[its_end],
                    start_new_session=True,
                )
        except OSError as error:
            os.close(self._lifeline)
            where = f" ({error.filename})" if error.filename else ""
            raise UserError(f"{line[0]} could not be started: {error.strerror}{where}.") from None
        finally:
            os.close(its_end)
        self.pid = self._process.pid

    @property
    def status(self) -> int | None:
        """Exit status; the negative number of the signal that ended it; None while it runs."""
        return self._process.poll()

    def error(self) -> str:
        """Returns why it failed: its last line that begins with "ERROR: ", or else its last line."""
        lines: list[str] = []
        with contextlib.suppress(FileNotFoundError), open(self._output, "rb") as file:  # Its folder may be gone.
            file.seek(max(self._written_before, os.fstat(file.fileno()).st_size - _LAST_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
        if errors:
            return errors[-1]
        status = self.status or 0
        how = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"it ended with {how}" + f" after: {last[:200]}" * bool(last)

    def terminate(self) -> None:
        """Asks it to end (SIGTERM); does not wait."""
        if self.status is None:
            self._process.terminate()

    def end(self, seconds: float) -> None:
        """Asks it to end, and kills it after `seconds`."""
        end_all([self], seconds)

    def close(self) -> None:
        """Closes its lifeline; call it once it has ended."""
        with contextlib.suppress(OSError):
            os.close(self._lifeline)
        self._lifeline = -1


def end_all(commands: Sequence[Command], seconds: float) -> None:
    """Does `Command.end` for several commands at once."""
    for each in commands:
        each.terminate()
    deadline = time.monotonic() + seconds
    while any(each.status is None for each in commands) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    for each in commands:
        if each.status is None:
            with contextlib.suppress(OSError):
                os.killpg(each.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                each._process.wait(_KILL_SECONDS)
        each.close()

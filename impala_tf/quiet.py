"""Keeps other libraries' informational messages off the user's terminal.

Three kinds of them reach standard error by default, each by its own way:

- TensorFlow's C++ start-up log (oneDNN, missing CUDA drivers, CPU features, "Unable to register cuDNN factory", which is
  logged as an error and is none): read from the environment when TensorFlow is loaded; `environment()`.
- Gym's notice that it is unmaintained, printed when TF-Agents imports it: `environment()`.
- Reverb's server and sampler lines and XLA's "Compiled cluster using XLA!": written to file descriptor 2 without any
  switch; `native_stderr()` around the calls that cause them.

Errors are not lost: TensorFlow and Reverb also raise them as Python exceptions. TF_CPP_MIN_LOG_LEVEL=0 in the
environment shows everything.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_NOISE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR"
    rb"|I0000 .*\] Compiled cluster using XLA!"
    rb"|\[reverb/cc/.*\] +(Initializing TFRecordCheckpointer|Loading latest checkpoint|Started replay server"
    rb"|Shutting down replay server|Sampler and server are owned by the same process)"
)
_lock = threading.RLock()


def environment() -> None:
    """Sets what the libraries read when they are loaded; `import impala_tf` calls it. What the user has set stays."""
    os.environ.setdefault(_LEVEL, "3")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    if not _show_everything():
        with contextlib.suppress(ImportError):
            # A table {gym's version: notice} in a package without code of its own; gym prints what it finds there.
            from gym_notices.notices import notices

            notices.clear()


@contextlib.contextmanager
def native_stderr() -> Iterator[None]:
    """Drops known informational lines that native libraries write to standard error (file descriptor 2) inside it.

    For short calls, such as starting a Reverb server: everything that the process writes to standard error is held back
    until the end of the block, and the unknown lines appear then.
    """
    if _show_everything():
        yield
        return
    with _lock, tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        terminal = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            held.seek(0)
            _write(b"".join(line for line in held if not _NOISE.match(line)))


def _write(rest: bytes) -> None:
    with contextlib.suppress(OSError):
        while rest:
            rest = rest[os.write(2, rest) :]


def _show_everything() -> bool:
    return os.environ.get(_LEVEL) == "0"
